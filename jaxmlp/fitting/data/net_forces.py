"""Forces that do not add up to zero: what a fit makes of labels that no potential can have."""

from collections.abc import Sequence

import numpy as np

from jaxmlp.fitting.data.structure import Structure


def treat_net_forces(structures: Sequence[Structure], how: str | float = "keep") -> list[Structure]:
    """Return the structures with forces that add up to zero, or without forces where these are too far from it.

    The forces of a potential without external fields add up to zero in every structure, whatever its parameters: a
    penalty of predicted net forces would be zero. Those of labels do not always, by errors of the first-principles
    calculation (Kuryla, Berger, Csányi, Michaelides, arXiv:2510.19774 (2025)). With squared errors, |F - F_label|^2
    summed over a structure is what it is for labels less their mean, plus a constant: "remove" then changes what errors
    are reported, not what is learned; with absolute errors or Huber's function it changes both. What else is wrong with
    such forces goes only with the forces, so that a bound leaves them out.

    Args:
        how: "keep" leaves labels as they are; "remove" subtracts the mean force of a structure from those of its atoms;
            a number (eV/Å) leaves out the forces of structures with |sum F| / sqrt(N) above it, which is what errors of
            this size in every force give. Energies and virials stay.

    Raises:
        ValueError: another word, or a number that is not positive.
    """
    if how == "keep":
        return list(structures)
    bound = how if isinstance(how, int | float) and not isinstance(how, bool) else None
    if how != "remove" and (bound is None or not bound > 0):
        raise ValueError(f"net_force is keep, remove or a positive number in eV/Å; got {how!r}.")
    return [_treated(s, bound) for s in structures]


def _treated(s: Structure, bound: float | None) -> Structure:
    if s.forces is None:
        return s
    if bound is None:
        return s.replace(forces=s.forces - s.forces.mean(axis=0))
    wrong = np.linalg.norm(s.forces.sum(axis=0)) > bound * np.sqrt(len(s))
    return s.replace(forces=None) if wrong else s
