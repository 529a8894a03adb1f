"""The error of every file reader."""


class FormatError(ValueError):
    """A file is wrong: says which file and line, what was expected there and what was found.

    Args:
        path: the file.
        line: line number, counted from 1; None where the file has no lines (binary formats, missing end).
        message: what was expected and what was found.
    """

    def __init__(self, path, line: int | None, message: str):
        where = f"{path}" if line is None else f"{path}, line {line}"
        super().__init__(f"{where}: {message}")
        self.path, self.line = path, line
