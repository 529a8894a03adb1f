"""ACE potential files: `.yace` and `.ace` in the C-tilde basis, `.yaml` in the B basis; told apart by content."""

import re
from os import PathLike

from jaxmlp.formats import ace_bbasis, ace_text, ace_yace
from jaxmlp.potential import Params
from jaxmlp.potentials.ace import ACE

HEAD = 1 << 16  # bytes looked at
REMARKS = rb"([ \t\r]*(#[^\n]*)?\n)*[ \t]*"  # one way to match, so that no text takes long


def load(path: str | PathLike, *, spline: bool = False) -> tuple[ACE, Params]:
    """Return the potential and parameters of an ACE file of any of the three forms.

    Args:
        spline: evaluate radial functions by the cubic tables (deltaSplineBins) of the codes; else exactly.

    Raises:
        FormatError: the file is none of them, is truncated, or contradicts itself.
    """
    with open(path, "rb") as file:
        head = file.read(HEAD)
    if is_text(head):
        return ace_text.load(path, spline=spline)
    if is_bbasis(head):
        return ace_bbasis.load(path, spline=spline)
    return ace_yace.load(path, spline=spline)


def save(path: str | PathLike, potential: ACE, params: Params) -> None:
    """Write a `.yace` file; see `ace_yace.save`."""
    ace_yace.save(path, potential, params)


def is_text(head: bytes) -> bool:
    """The first entry of a .ace file is nelements=."""
    return re.match(REMARKS + rb"nelements[ \t]*=", head) is not None


def is_bbasis(head: bytes) -> bool:
    """A .yaml file lists species blocks."""
    return re.search(rb"^[ \t]*(-[ \t]+)?([{][ \t]*)?[\"']?speciesblock[\"']?[ \t]*:", head, re.MULTILINE) is not None


def is_yace(head: bytes) -> bool:
    """A .yace file starts with elements, E0, embeddings ... and names a deltaSplineBins or embeddings."""
    return re.match(REMARKS + rb"elements[ \t]*:", head) is not None and b"embeddings" in head


def recognise(head: bytes, path: str | PathLike) -> bool:
    """True for the content of any of the three."""
    return b"\0" not in head and (is_text(head) or is_bbasis(head) or is_yace(head))
