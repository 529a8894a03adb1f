"""Electron configurations of the elements in the form in which Deep Potential models take them."""

import numpy as np

ORBITALS = [
    "1s",
    "2s",
    "2p",
    "3s",
    "3p",
    "3d",
    "4s",
    "4p",
    "4d",
    "4f",
    "5s",
    "5p",
    "5d",
    "5f",
    "6s",
    "6p",
    "6d",
    "7s",
    "7p",
]
FILLING = [
    "1s",
    "2s",
    "2p",
    "3s",
    "3p",
    "4s",
    "3d",
    "4p",
    "5s",
    "4d",
    "5p",
    "6s",
    "4f",
    "5d",
    "6p",
    "7s",
    "5f",
    "6d",
    "7p",
]  # the Madelung order
# Ground states that deviate from it: electrons moved between orbitals. NIST Atomic Spectra Database; for 103, 110 and
# 111 those of the models, which have 6d 7s2, 6d9 7s and 6d10 7s.
MOVED = {
    24: ("4s", "3d", 1), 29: ("4s", "3d", 1), 41: ("5s", "4d", 1), 42: ("5s", "4d", 1), 44: ("5s", "4d", 1),
    45: ("5s", "4d", 1), 46: ("5s", "4d", 2), 47: ("5s", "4d", 1), 57: ("4f", "5d", 1), 58: ("4f", "5d", 1),
    64: ("4f", "5d", 1), 78: ("6s", "5d", 1), 79: ("6s", "5d", 1), 89: ("5f", "6d", 1), 90: ("5f", "6d", 2),
    91: ("5f", "6d", 1), 92: ("5f", "6d", 1), 93: ("5f", "6d", 1), 96: ("5f", "6d", 1),
    110: ("7s", "6d", 1), 111: ("7s", "6d", 1),
}  # fmt: skip


def occupations(number: int) -> dict[str, int]:
    """Return the electrons in each orbital of the neutral atom."""
    left, out = number, dict.fromkeys(ORBITALS, 0)
    for orbital in FILLING:
        out[orbital] = min(left, capacity(orbital))
        left -= out[orbital]
    if number in MOVED:
        source, target, count = MOVED[number]
        out[source] -= count
        out[target] += count
    return out


def capacity(orbital: str) -> int:
    return 2 * (2 * "spdf".index(orbital[1]) + 1)


def spin_orbitals(number: int) -> np.ndarray:
    """Return the vector of length 1 with two entries, -1 empty or 1 filled, for each orbital of a shell in turn.

    Electrons of a shell fill the second entries first, one in each orbital, then the first entries.
    """
    out = []
    for orbital, electrons in occupations(number).items():
        half = capacity(orbital) // 2
        for m in range(half):
            out += [1.0 if electrons > half + m else -1.0, 1.0 if electrons > m else -1.0]
    return np.array(out) / len(out) ** 0.5
