"""What is wrong, or looks wrong, with data: the record and its presentation."""

from collections.abc import Sequence
from typing import NamedTuple


class Finding(NamedTuple):
    """One thing found in a set of structures.

    Args:
        structure: index of the structure; of the first one where several are meant.
        kind: "labels", "contact", "duplicate", "net force", "virial", "cell", "energy", "units".
        severity: "error" (training on this is a mistake) or "warning" (look at it).
        message: names the structure's source.
    """

    structure: int
    kind: str
    severity: str
    message: str


def report(findings: Sequence[Finding], *, most: int = 5) -> str:
    """Return the findings as text, errors first, not more than `most` lines for every kind and severity."""
    if not findings:
        return "nothing found"
    lines = []
    for severity in ("error", "warning"):
        chosen = [f for f in findings if f.severity == severity]
        for kind in dict.fromkeys(f.kind for f in chosen):
            same = [f for f in chosen if f.kind == kind]
            lines += [f"{severity} ({kind}): {f.message}" for f in same[:most]]
            if len(same) > most:
                lines.append(f"{severity} ({kind}): and {len(same) - most} more like these.")
    return "\n".join(lines)


def raise_errors(findings: Sequence[Finding], *, most: int = 5) -> None:
    """Raise a ValueError with the report of the errors, if there are errors."""
    errors = [f for f in findings if f.severity == "error"]
    if errors:
        raise ValueError(f"the data have {len(errors)} error(s):\n{report(errors, most=most)}")
