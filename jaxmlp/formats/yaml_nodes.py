"""YAML read as typed values, with file and line in every complaint; mappings may have lists as keys."""

import math
import re
from os import PathLike
from pathlib import Path
from typing import NoReturn

import yaml

from jaxmlp.formats.errors import FormatError

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_FLOAT = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_INT = re.compile(r"[+-]?\d{1,9}", re.ASCII)


class Node:
    """One place of a YAML document: a scalar, a list or a mapping.

    Args:
        path: the file.
        node: what yaml.compose gives; nothing is ever constructed from it but texts and numbers.
    """

    def __init__(self, path: str | PathLike, node: yaml.Node):
        self.path, self.node = path, node

    @property
    def line(self) -> int:
        return self.node.start_mark.line + 1

    def refuse(self, expected: str) -> NoReturn:
        """Raise the FormatError "expected ..., found (this)"."""
        if isinstance(self.node, yaml.ScalarNode):
            text = str(self.node.value)
            found = f"`{text if len(text) <= 60 else text[:57] + '...'}`"
        else:
            found = f"a {'list' if isinstance(self.node, yaml.SequenceNode) else 'mapping'} of {len(self.node.value)}"
        raise FormatError(self.path, self.line, f"expected {expected}, found {found}.")

    @property
    def is_list(self) -> bool:
        return isinstance(self.node, yaml.SequenceNode)

    @property
    def is_mapping(self) -> bool:
        return isinstance(self.node, yaml.MappingNode)

    def items(self, what: str) -> list[tuple["Node", "Node"]]:
        """Return the keys and values of a mapping; every scalar key once."""
        if not self.is_mapping:
            self.refuse(f"{what} as a mapping")
        pairs = [(Node(self.path, k), Node(self.path, v)) for k, v in self.node.value]
        names = [str(k.node.value) for k, _ in pairs if isinstance(k.node, yaml.ScalarNode)]
        twice = next((k for k, _ in pairs if names.count(str(k.node.value)) > 1), None) if len(names) < 200 else None
        if twice is not None:
            twice.refuse(f"every key of {what} once")
        return pairs

    def mapping(self, what: str) -> dict[str, "Node"]:
        """Return a mapping with texts as keys."""
        return {k.text(f"a key of {what}"): v for k, v in self.items(what)}

    def list(self, what: str, length: int | None = None) -> list["Node"]:
        """Return the members of a list, of `length` where that is given."""
        if not self.is_list or length not in (None, len(self.node.value)):
            self.refuse(f"{what} as a list" + ("" if length is None else f" of {length}"))
        return [Node(self.path, x) for x in self.node.value]

    def text(self, what: str) -> str:
        if not isinstance(self.node, yaml.ScalarNode):
            self.refuse(what)
        return str(self.node.value)

    def number(self, what: str, low: float = -math.inf, high: float = math.inf) -> float:
        """Return a finite number with low <= number <= high."""
        text = self.node.value if isinstance(self.node, yaml.ScalarNode) else ""
        value = float(text) if _FLOAT.fullmatch(text) else math.nan
        if not (math.isfinite(value) and low <= value <= high):
            between = "" if low == -math.inf and high == math.inf else f" between {low:g} and {high:g}"
            self.refuse(f"{what} as a finite number{between}")
        return value

    def integer(self, what: str, low: int = 0, high: int = 10_000) -> int:
        """Return an integer with low <= integer <= high."""
        text = self.node.value if isinstance(self.node, yaml.ScalarNode) else ""
        if not _INT.fullmatch(text) or not low <= int(text) <= high:
            self.refuse(f"{what} as an integer between {low} and {high}")
        return int(text)

    def numbers(self, what: str, length: int | None = None) -> tuple[float, ...]:
        return tuple(x.number(what) for x in self.list(what, length))

    def integers(self, what: str, low: int = 0, high: int = 10_000, length: int | None = None) -> tuple[int, ...]:
        return tuple(x.integer(what, low, high) for x in self.list(what, length))


class Fields:
    """The entries of a mapping, taken by name; what is left over at the end is refused."""

    def __init__(self, node: Node, what: str):
        self.node, self.what, self.left = node, what, node.mapping(what)

    def take(self, name: str) -> Node:
        """Return an entry that has to be there."""
        if name not in self.left:
            self.node.refuse(f"{self.what} with an entry `{name}`")
        return self.left.pop(name)

    def get(self, name: str) -> Node | None:
        """Return an entry, or None."""
        return self.left.pop(name, None)

    def done(self) -> None:
        """Refuse entries that nobody took."""
        for name, node in self.left.items():
            raise FormatError(node.path, node.line, f"{self.what} has an entry `{name}` that is not known.")


def read(path: str | PathLike, kind: str) -> Node:
    """Return the root of the one document of a YAML file.

    Raises:
        FormatError: the file is no YAML, or holds nothing. Tags are not looked at: nothing is constructed.
    """
    raw = Path(path).read_bytes()
    try:
        root = yaml.compose(raw.decode("utf-8"), Loader=_LOADER)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise FormatError(path, line, f"expected {kind} in UTF-8, found the byte {raw[error.start]:#04x}.") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise FormatError(path, mark.line + 1 if mark else 1, f"expected {kind}: {error.problem}.") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise FormatError(path, 1, f"expected {kind}: {str(error).splitlines()[0]}.") from error
    if root is None:
        raise FormatError(path, 1, f"expected {kind}, found an empty file.")
    return Node(path, root)
