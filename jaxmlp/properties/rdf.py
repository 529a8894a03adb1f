"""The radial distribution function g(r)."""

import numpy as np

from jaxmlp.neighbors.grid import PBC, edges


def rdf(
    R: np.ndarray,
    box: np.ndarray,
    *,
    cutoff: float,
    bins: int = 200,
    numbers: np.ndarray | None = None,
    pair: tuple[int, int] | None = None,
    pbc: PBC = (True, True, True),
) -> tuple[np.ndarray, np.ndarray]:
    """Return bin centres r (bins,) Å and g (bins,), the mean over frames; 1 far away in a periodic system.

    g(r) = V / (N_a N_b) <number of ordered pairs a-b in a shell> / (4 pi/3 (r_+^3 - r_-^3)), with N_a (N_a - 1) for
    a = b. Images count, so the cutoff may exceed half the box.

    Args:
        R: (N, 3) or (frames, N, 3) Å.
        box: (3, 3) or (frames, 3, 3) Å.
        cutoff: Å.
        numbers, pair: atomic numbers (N,), and two of them for a partial g(r); all pairs where None.
        pbc: periodic directions; the density is N / V all the same.

    Raises:
        ValueError: shapes that do not fit, or a pair without its atoms.
    """
    R = np.asarray(R, float)
    R = R[None] if R.ndim == 2 else R
    box = np.broadcast_to(np.asarray(box, float), (len(R), 3, 3))
    if R.ndim != 3 or R.shape[2] != 3 or not (cutoff > 0 and bins > 0):
        raise ValueError(
            f"rdf needs positions (frames, N, 3), cutoff > 0 and bins > 0; got {R.shape}, {cutoff}, {bins}."
        )
    n = R.shape[1]
    if (pair is None) != (numbers is None):
        raise ValueError("a partial g(r) needs both numbers (N,) and pair, for instance pair=(14, 8).")
    kinds = [np.ones(n, bool)] * 2 if pair is None else [np.asarray(numbers) == z for z in pair]
    same = pair is None or pair[0] == pair[1]
    n_a, n_b = (int(k.sum()) for k in kinds)
    pairs = n_a * (n_b - same)
    if pairs < 1:
        raise ValueError(f"g(r) needs atoms on both sides; got {n_a} and {n_b}.")
    walls = np.linspace(0, cutoff, bins + 1)
    shells = 4 * np.pi / 3 * np.diff(walls**3)
    g = np.zeros(bins)
    for positions, cell in zip(R, box, strict=True):
        i, j, shift = edges(positions, cell, pbc, cutoff)
        keep = kinds[0][i] & kinds[1][j]
        i, j, shift = i[keep], j[keep], shift[keep]
        d = np.linalg.norm(positions[j] + shift @ cell - positions[i], axis=1)
        count, _ = np.histogram(d, walls)
        g += count * abs(np.linalg.det(cell)) / (pairs * shells)
    return (walls[1:] + walls[:-1]) / 2, g / len(R)
