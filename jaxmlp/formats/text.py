"""Numbers and words from text files, with the file and line in every complaint."""

import math
import re
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import NoReturn

import numpy as np

from jaxmlp.formats.errors import FormatError

_FLOAT = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][+-]?\d+)?", re.ASCII)
INTEGER = re.compile(r"[+-]?\d{1,18}", re.ASCII)


def as_float(word: str) -> float:
    """Return a number as C or Fortran (exponents with d) write it; NaN for anything else."""
    return float(word.lower().replace("d", "e")) if _FLOAT.fullmatch(word) else math.nan


class Words:
    """The words of one line, or of one record that spans several lines.

    Args:
        path: the file.
        line: number of the (first) line, from 1.
        words: the words; `words[k]` of `Words` is `self[k]`.
    """

    def __init__(self, path: str | PathLike, line: int, words: list[str]):
        self.path, self.line, self.words = path, line, words

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, key):
        """Return one word, or the `Words` of a slice."""
        return Words(self.path, self.line, self.words[key]) if isinstance(key, slice) else self.words[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.words)

    def refuse(self, expected: str) -> NoReturn:
        """Raise the FormatError "expected ..., found (this line)"."""
        found = " ".join(self.words)
        found = found if len(found) <= 80 else f"{found[:77]}..."
        raise FormatError(self.path, self.line, f"expected {expected}, found `{found}`.")

    def expect_length(self, n: int, what: str) -> "Words":
        """Return self if it holds exactly n words."""
        if len(self.words) != n:
            self.refuse(f"{what} ({n} words)")
        return self

    def expect_floats(self, n: int, what: str = "numbers") -> np.ndarray:
        """Return exactly n finite numbers, (n,) float64; exponents may be written e or, as in Fortran, d."""
        if len(self.words) != n:
            self.refuse(f"{n} {what}")
        return np.array([self.expect_float(k, what) for k in range(n)])

    def expect_float(self, k: int, what: str, low: float = -math.inf, high: float = math.inf) -> float:
        """Return word k as a finite number with low <= number <= high."""
        text = self.words[k] if k < len(self.words) else ""
        value = as_float(text)
        if not (math.isfinite(value) and low <= value <= high):
            between = "" if low == -math.inf and high == math.inf else f" between {low:g} and {high:g}"
            self.refuse(f"{what} as a finite number{between} (word {k + 1})")
        return value

    def expect_int(self, k: int, what: str, low: int, high: int) -> int:
        """Return word k as an integer with low <= integer <= high."""
        text = self.words[k] if k < len(self.words) else ""
        if not INTEGER.fullmatch(text) or not low <= int(text) <= high:
            self.refuse(f"{what} as an integer between {low} and {high} (word {k + 1})")
        return int(text)


class TextReader:
    """The lines of a text file, in order, without comments and empty lines.

    Args:
        path: the file.
        kind: what the file should be, for the complaints ("a LAMMPS .sw file").
        comment: what starts a comment that reaches to the end of the line.

    Raises:
        FormatError: the file is not text. A missing file raises FileNotFoundError, as `open` does.
    """

    def __init__(self, path: str | PathLike, kind: str, comment: str = "#"):
        self.path, self.kind, self.comment = path, kind, comment
        raw = Path(path).read_bytes()
        if b"\0" in raw:
            raise FormatError(path, raw[: raw.index(b"\0")].count(b"\n") + 1, f"expected {kind}, found binary data.")
        self.size = len(raw)
        self.lines = raw.decode("utf-8", errors="replace").split("\n")
        self.at = 0  # lines taken so far

    def skip(self, lines: int) -> None:
        """Pass over lines as they stand: titles that may look like anything."""
        if self.at + lines >= len(self.lines):
            self.refuse_end(f"{lines} title line(s)")
        self.at += lines

    def refuse_end(self, expected: str) -> NoReturn:
        """Raise the FormatError of a file that ends too early."""
        end = len(self.lines) - (self.lines[-1] == "")
        raise FormatError(self.path, end, f"expected {expected}, found the end of the file: {self.kind} is truncated.")

    def next(self, expected: str) -> Words:
        """Return the words of the next line that has some."""
        words = self.next_or_none()
        if words is None:
            self.refuse_end(expected)
        return words

    def next_or_none(self) -> Words | None:
        """Return the words of the next line that has some, or None at the end of the file."""
        while self.at < len(self.lines):
            self.at += 1
            words = self.lines[self.at - 1].split(self.comment, 1)[0].split()
            if words:
                return Words(self.path, self.at, words)
        return None

    def record(self, n: int, expected: str) -> Words | None:
        """Return exactly n words from as many lines as it takes, or None at the end of the file."""
        first = self.next_or_none()
        if first is None:
            return None
        words = list(first)
        while len(words) < n:
            words += self.next(expected)
        if len(words) > n:
            Words(self.path, first.line, words).refuse(f"{expected} ({n} words)")
        return Words(self.path, first.line, words)

    def floats(self, n: int, expected: str) -> np.ndarray:
        """Return exactly n finite numbers, (n,), from as many lines as it takes; the last of these lines ends there."""
        if 2 * n > self.size + 1:  # a digit and a separator each: refuse a wrong count before reserving memory for it
            raise FormatError(
                self.path, self.at, f"expected {n} numbers ({expected}), found a file of {self.size} bytes in all."
            )
        out: list[np.ndarray] = []
        missing = n
        while missing > 0:
            line = self.next(f"{missing} more of {n} numbers ({expected})")
            if len(line) > missing:
                line.refuse(f"the last {missing} of {n} numbers ({expected})")
            out.append(line.expect_floats(len(line), expected))
            missing -= len(line)
        return np.concatenate(out) if out else np.zeros(0)

    def expect_end(self) -> None:
        """Raise a FormatError if words are left."""
        line = self.next_or_none()
        if line is not None:
            line.refuse(f"the end of {self.kind}")
