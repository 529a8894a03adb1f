"""Words, numbers and braced lists of a text, with the file and line in every complaint."""

import re
from os import PathLike
from typing import NoReturn

import numpy as np

from jaxmlp.formats.errors import FormatError

MOST = 1_000_000  # no integer of a table is larger
_TOKEN = re.compile(r"[{},=]|[^\s{},=]+")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d{1,15}", re.ASCII)


class Tokens:
    """The words, braces, commas and equals signs of a text, in order.

    Args:
        path: the file, for the complaints.
        text: its content.
        kind: what the file should be ("an MTP file").
    """

    def __init__(self, path: str | PathLike, text: str, kind: str):
        self.path, self.kind = path, kind
        self.items = [(word, k) for k, line in enumerate(text.split("\n"), 1) for word in _TOKEN.findall(line)]
        self.at = 0  # tokens taken so far

    @property
    def line(self) -> int:
        """The line of the next token, or the last one."""
        return self.items[min(self.at, len(self.items) - 1)][1] if self.items else 1

    def refuse(self, expected: str) -> NoReturn:
        """Raise the FormatError "expected ..., found (the next token)"."""
        if self.at < len(self.items):
            raise FormatError(self.path, self.line, f"expected {expected}, found `{self.items[self.at][0][:60]}`.")
        end = f"found the end of the file: {self.kind} is truncated."
        raise FormatError(self.path, self.line, f"expected {expected}, {end}")

    def peek(self) -> str | None:
        """Return the next token, or None at the end."""
        return self.items[self.at][0] if self.at < len(self.items) else None

    def take(self, wanted: str, expected: str) -> None:
        """Pass over the token `wanted`."""
        if self.peek() != wanted:
            self.refuse(expected)
        self.at += 1

    def skip_line(self) -> None:
        """Pass over what is left of the line of the last token."""
        line = self.items[self.at - 1][1]
        while self.at < len(self.items) and self.items[self.at][1] == line:
            self.at += 1

    def number(self, what: str, low: float = -np.inf, high: float = np.inf) -> float:
        """Take a finite number with low <= number <= high."""
        word = self.peek()
        value = float(word) if word and _NUMBER.fullmatch(word) else np.nan
        if not (np.isfinite(value) and low <= value <= high):
            between = "" if (low, high) == (-np.inf, np.inf) else f" from {low:g} to {high:g}"
            self.refuse(f"{what}, a finite number{between}")
        self.at += 1
        return value

    def integer(self, what: str, low: int, high: int = MOST) -> int:
        """Take an integer with low <= integer <= high."""
        word = self.peek() or ""
        if not _INTEGER.fullmatch(word) or not low <= int(word) <= high:
            self.refuse(f"{what}, an integer from {low} to {high}")
        self.at += 1
        return int(word)

    def numbers(self, what: str, count: int) -> list[float]:
        """Take {a, b, ...}, `count` numbers."""
        return self._listed(what, count, lambda: self.number(what))

    def integers(self, what: str, count: int) -> list[int]:
        """Take {a, b, ...}, `count` integers that are not negative."""
        return self._listed(what, count, lambda: self.integer(what, 0))

    def rows(self, what: str, count: int, width: int) -> list[tuple[int, ...]]:
        """Take {{a, b, ...}, ...}, `count` rows of `width` integers that are not negative."""
        return self._listed(what, count, lambda: tuple(self.integers(what, width)))

    def _listed(self, what: str, count: int, item) -> list:
        self.take("{", f"{{ and {count} entries of {what}")
        out: list = []
        while self.peek() != "}":
            if out:
                self.take(",", f", or }} in {what}")
            if len(out) == count:
                self.refuse(f"}} after {count} entries of {what}")
            out.append(item())
        if len(out) != count:
            self.refuse(f"{count} entries of {what}, not {len(out)},")
        self.at += 1
        return out
