"""XML files as small trees, every element with its line; what could reach outside the file is refused."""

import math
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import NoReturn
from xml.parsers import expat

import numpy as np

from jaxmlp.formats.errors import FormatError
from jaxmlp.formats.text import INTEGER, as_float

DEEPEST = 32  # elements inside each other; gap.xml has 6


class Element:
    """One element of an XML file: its name, attributes, line, the elements inside, and its text."""

    def __init__(self, path: str | PathLike, name: str, attributes: dict[str, str], line: int):
        self.path, self.name, self.attributes, self.line = path, name, attributes, line
        self.children: list[Element] = []
        self.pieces: list[str] = []

    @property
    def text(self) -> str:
        """The characters directly inside."""
        return "".join(self.pieces)

    def all(self, name: str) -> list["Element"]:
        """Return the elements of this name directly inside."""
        return [c for c in self.children if c.name == name]

    def everywhere(self, name: str) -> Iterator["Element"]:
        """Yield all elements of this name, at any depth."""
        for child in self.children:
            if child.name == name:
                yield child
            yield from child.everywhere(name)

    def one(self, name: str) -> "Element":
        """Return the only element of this name directly inside."""
        found = self.all(name)
        if len(found) != 1:
            self.refuse(f"one <{name}>, found {len(found)}")
        return found[0]

    def refuse(self, message: str) -> NoReturn:
        """Raise the FormatError "expected `message` in <name>"."""
        raise FormatError(self.path, self.line, f"expected in <{self.name}> {message}.")

    def word(self, name: str, default: str | None = None) -> str:
        """Return an attribute."""
        value = self.attributes.get(name, default)
        if value is None:
            self.refuse(f"an attribute {name!r}, found {', '.join(self.attributes) or 'none'}")
        return value.strip()

    def integer(self, name: str, low: int, high: int, default: str | None = None) -> int:
        """Return an attribute as an integer with low <= integer <= high."""
        word = self.word(name, default)
        if not INTEGER.fullmatch(word) or not low <= int(word) <= high:
            self.refuse(f"{name} as an integer between {low} and {high}, found `{word[:40]}`")
        return int(word)

    def number(self, name: str, default: str | None = None) -> float:
        """Return an attribute as a finite number."""
        word = self.word(name, default)
        value = as_float(word)
        if not math.isfinite(value):
            self.refuse(f"{name} as a finite number, found `{word[:40]}`")
        return value

    def numbers(self, count: int, what: str) -> np.ndarray:
        """Return the text as exactly `count` finite numbers, (count,) float64."""
        words = self.text.split()
        if len(words) != count:
            self.refuse(f"{count} {what}, found {len(words)} words")
        values = np.array([as_float(w) for w in words])
        if not np.isfinite(values).all():
            bad = words[int(np.argmin(np.isfinite(values)))]
            self.refuse(f"{count} {what}, finite numbers, found `{bad[:40]}`")
        return values


def recognise(head: bytes, path: str | PathLike) -> bool:
    """XML that names GAP's parameters, or the potential line that GAP's files begin with."""
    return head.lstrip()[:1] == b"<" and any(word in head for word in (b"<GAP_params", b"<gpSparse", b"IP GAP"))


def read(path: str | PathLike, skip: tuple[str, ...] = ()) -> Element:
    """Return the root element of an XML file.

    Document types are refused: without them there are no entities to expand and nothing to fetch.

    Args:
        skip: names of elements whose content is not kept.

    Raises:
        FormatError: the file is no well-formed XML, has a document type, or elements nested too deep.
    """
    root = Element(path, "", {}, 1)
    stack, skipping = [root], 0
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal skipping
        if skipping:
            skipping += 1
        else:
            stack.append(Element(path, name, attributes, parser.CurrentLineNumber))
            stack[-2].children.append(stack[-1])
            skipping = int(name in skip)
        if len(stack) + skipping > DEEPEST:
            raise FormatError(
                path, parser.CurrentLineNumber, f"expected elements at most {DEEPEST} deep, found <{name}> deeper."
            )

    def end(name: str) -> None:
        nonlocal skipping
        skipping = max(skipping - 1, 0)
        if not skipping:
            stack.pop()

    def characters(text: str) -> None:
        if not skipping:
            stack[-1].pieces.append(text)

    def document_type(*_) -> NoReturn:
        raise FormatError(
            path, parser.CurrentLineNumber, "expected XML without document type and entities, found <!DOCTYPE."
        )

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = characters
    parser.StartDoctypeDeclHandler = document_type
    parser.EntityDeclHandler = document_type
    parser.ExternalEntityRefHandler = document_type
    try:
        parser.Parse(Path(path).read_bytes(), True)
    except FormatError:
        raise
    except (expat.ExpatError, LookupError, ValueError) as error:  # also encodings that Python does not know
        raise FormatError(path, parser.CurrentLineNumber, f"expected well-formed XML: {error}.") from None
    return root.children[0]
