"""The tree of a Deep Potential file: .dp (HDF5), .yaml or .json, read as plain data with a place in every complaint."""

import json
import math
import re
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import yaml

from jaxmlp.formats import deepmd_hdf5
from jaxmlp.formats.errors import FormatError

KIND = "a Deep Potential model"
MAGIC = b"\x89HDF\r\n\x1a\n"
DEEPEST = 60  # models nest 16 deep
_FLOAT = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_INT = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_WORDS = {"null": None, "~": None, "": None, "true": True, "false": False, "True": True, "False": False}


class Entry:
    """One place of the tree: a mapping, a list, an array, a text, a number, a truth value or nothing.

    Args:
        path: the file.
        where: the keys that lead here, `model/descriptor/rcut`.
        value: dict, list, numpy array, str, int, float, bool or None.
        lines: line of each dict and list by its id, for texts; empty for .dp.
    """

    def __init__(self, path: str | PathLike, where: str, value: Any, lines: dict[int, int], line: int | None = None):
        self.path, self.where, self.value, self.lines = path, where, value, lines
        self.line = lines.get(id(value), line)
        self.left = dict(value) if isinstance(value, dict) else {}

    def refuse(self, expected: str) -> NoReturn:
        """Raise the FormatError "at (place): expected ..., found (this)"."""
        v = self.value
        if isinstance(v, dict | list):
            found = f"a {'mapping' if isinstance(v, dict) else 'list'} of {len(v)}"
        else:
            found = f"an array {v.shape}" if isinstance(v, np.ndarray) else f"`{str(v)[:60]}`"
        raise FormatError(self.path, self.line, f"at {self.where or 'the top'}: expected {expected}, found {found}.")

    def _child(self, name: str, value: Any) -> "Entry":
        return Entry(self.path, f"{self.where}/{name}".lstrip("/"), value, self.lines, self.line)

    def take(self, name: str) -> "Entry":
        """Return an entry of this mapping that has to be there."""
        if not isinstance(self.value, dict) or name not in self.left:
            self.refuse(f"a mapping with an entry `{name}`")
        return self._child(name, self.left.pop(name))

    def get(self, name: str, default: Any = None) -> "Entry":
        """Return an entry of this mapping, or one that holds `default`."""
        if not isinstance(self.value, dict):
            self.refuse("a mapping")
        return self._child(name, self.left.pop(name, default))

    def done(self, *unimportant: str) -> None:
        """Refuse the entries that nobody took, but for some that change no energy."""
        for name in self.left:
            if name not in unimportant:
                self._child(name, self.left[name]).refuse("no option of this name: it is not known")

    def list(self, length: int | None = None) -> list["Entry"]:
        if not isinstance(self.value, list) or length not in (None, len(self.value)):
            self.refuse("a list" + ("" if length is None else f" of {length}"))
        return [self._child(str(k), v) for k, v in enumerate(self.value)]

    def text(self) -> str:
        if not isinstance(self.value, str):
            self.refuse("a text")
        return self.value

    def truth(self) -> bool:
        if not isinstance(self.value, bool):
            self.refuse("true or false")
        return self.value

    def number(self, low: float = -math.inf, high: float = math.inf) -> float:
        v = self.value
        if isinstance(v, np.ndarray) and v.shape == () and v.dtype.kind in "fi":
            v = v.item()
        if isinstance(v, bool) or not isinstance(v, int | float) or not (math.isfinite(v) and low <= v <= high):
            self.refuse(
                "a finite number" + (f" between {low:g} and {high:g}" if (low, high) != (-math.inf, math.inf) else "")
            )
        return float(v)

    def integer(self, low: int = 0, high: int = 100_000) -> int:
        if isinstance(self.value, bool) or not isinstance(self.value, int) or not low <= self.value <= high:
            self.refuse(f"an integer between {low} and {high}")
        return self.value

    def integers(self, low: int, high: int, length: int | None = None) -> tuple[int, ...]:
        return tuple(e.integer(low, high) for e in self.list(length))

    def nothing(self, *also: Any) -> None:
        """Accept null, and values that mean the same; an empty list and 0 do where they are listed."""
        if self.value is not None and not any(type(self.value) is type(v) and self.value == v for v in also):
            self.refuse("nothing here: this option is not supported")

    def array(self, *shape: int | None) -> np.ndarray:
        """Return a finite array of numbers of a shape, None standing for any length."""
        v = self.value
        if not isinstance(v, np.ndarray):
            self.refuse("an array")
        if len(v.shape) != len(shape) or any(n not in (None, m) for n, m in zip(shape, v.shape)):
            self.refuse("an array of shape (" + ", ".join("any" if n is None else str(n) for n in shape) + ")")
        v = v.astype(float)
        if not np.isfinite(v).all():
            raise FormatError(self.path, self.line, f"at {self.where}: expected finite numbers, found NaN or infinity.")
        return v


def read(path: str | PathLike) -> Entry:
    """Return the root of a .dp, .yaml or .json file, told apart by content; nothing in it is executed.

    Raises:
        FormatError: it is none of them, or is damaged.
    """
    with open(path, "rb") as file:
        head = file.read(64)
    if head.startswith(MAGIC):
        return _read_hdf5(path)
    if head.lstrip()[:1] == b"{":
        return Entry(path, "", _arrays(path, _json(path, Path(path).read_bytes(), "the file")), {})
    return _read_yaml(path)


def _json(path, text: bytes | str, what: str) -> dict:
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise FormatError(
            path, getattr(error, "lineno", None), f"expected {KIND} as JSON in {what}: {error}."
        ) from error
    if not isinstance(value, dict):
        raise FormatError(path, None, f"expected {KIND}, a JSON object, in {what}; found a {type(value).__name__}.")
    _check_depth(path, value)
    return value


def _refuse_constant(word: str):
    raise ValueError(f"{word} is not a number")


def _check_depth(path, value: Any) -> None:
    level = [value]
    for _ in range(DEEPEST):
        level = [v for x in level for v in (x.values() if isinstance(x, dict) else x) if isinstance(v, dict | list)]
        if not level:
            return
    raise FormatError(path, None, f"expected {KIND}, found lists and mappings within {DEEPEST} others.")


def _read_hdf5(path) -> Entry:
    text, arrays, refused = deepmd_hdf5.read(path, KIND)
    return Entry(
        path, "", _variables(path, (arrays, refused), _json(path, text, "the attribute `json`"), "", False), {}
    )


def _variables(path, file, node: Any, where: str, inside: bool) -> Any:
    """The tree with the arrays that texts below `@variables` name; `file`: arrays, and why others are refused."""
    if isinstance(node, dict):
        return {
            k: _variables(path, file, v, f"{where}/{k}".lstrip("/"), inside or k == "@variables")
            for k, v in node.items()
        }
    if isinstance(node, list):
        return [_variables(path, file, v, f"{where}/{k}", inside) for k, v in enumerate(node)]
    if not (inside and isinstance(node, str)):
        return node
    arrays, refused = file
    name = node.lstrip("/")
    if name not in arrays:
        reason = refused.get(name, f"expected a dataset of this file, found the name `{name[:60]}`")
        raise FormatError(path, None, f"at {where}: {reason}.")
    return arrays[name]


def _arrays(path, node: Any) -> Any:
    """The tree with mappings of `@class: np.ndarray` turned into arrays."""
    if isinstance(node, list):
        return [_arrays(path, v) for v in node]
    if not isinstance(node, dict):
        return node
    if node.get("@class") == "np.ndarray":
        return _array(path, None, node.get("value"))
    return {k: _arrays(path, v) for k, v in node.items()}


def _array(path, line: int | None, value: Any) -> np.ndarray:
    try:
        out = np.asarray(value)
    except ValueError:
        out = np.asarray(None)
    if out.dtype.kind not in "fi":
        raise FormatError(path, line, "expected an array: lists of equal lengths of numbers.")
    return out


def _read_yaml(path) -> Entry:
    from jaxmlp.formats.ace_model import read_yaml

    root = read_yaml(path, KIND)
    lines: dict[int, int] = {}
    kept: list[Any] = []  # ids of living objects are unique
    value = _plain(path, root.node, lines, kept)
    if not isinstance(value, dict):
        root.refuse(f"{KIND} as a mapping")
    return Entry(path, "", value, lines, 1)


def _plain(path, node: yaml.Node, lines: dict[int, int], kept: list[Any]) -> Any:
    """Plain data from YAML nodes; their tags are not looked at."""
    line = node.start_mark.line + 1
    if isinstance(node, yaml.ScalarNode):
        text = str(node.value)
        if node.style in ("'", '"'):
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _INT.fullmatch(text):
            return int(text)
        return float(text) if _FLOAT.fullmatch(text) else text
    if isinstance(node, yaml.SequenceNode):
        out: Any = [_plain(path, v, lines, kept) for v in node.value]
    else:
        out = {}
        for k, v in node.value:
            name = str(k.value) if isinstance(k, yaml.ScalarNode) else ""
            if not name or name in out:
                raise FormatError(path, line, "expected a mapping with texts as keys, each once.")
            out[name] = _plain(path, v, lines, kept)
        if out.get("@class") == "np.ndarray":
            return _array(path, line, out.get("value"))
    lines[id(out)] = line
    kept.append(out)
    return out
