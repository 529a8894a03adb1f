"""Potentials to be fitted, by the names of their families."""

import difflib
import importlib
import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any

from jax import Array

from jaxmlp.potential import Params, Potential

FAMILIES = {
    "nep": "jaxmlp.fitting.families:nep",
    "mtp": "jaxmlp.potentials.mtp:MTP",
    "snap": "jaxmlp.potentials.snap:SNAP",
    "ace": "jaxmlp.potentials.ace_functions:ace",
    "gap": "jaxmlp.potentials.gap:gap",
    "bpnn": "jaxmlp.potentials.bpnn:bpnn",
    "dp": "jaxmlp.potentials.deepmd:deep_potential",
    "schnet": "jaxmlp.potentials.schnet:SchNet",
    "painn": "jaxmlp.potentials.painn:PaiNN",
    "dimenet": "jaxmlp.potentials.dimenet:DimeNetPlusPlus",
    "egnn": "jaxmlp.potentials.egnn:EGNN",
    "nequip": "jaxmlp.potentials.nequip:NequIP",
    "allegro": "jaxmlp.potentials.allegro:Allegro",
    "mace": "jaxmlp.potentials.mace:MACE",
}


def build(family: str, species: tuple[int, ...], **options: Any) -> Potential:
    """Return a potential of a family for some species, to be fitted.

    Args:
        family: a name of `FAMILIES`, in any case.
        species: atomic numbers.
        options: arguments of the class or function of that name, lists for tuples.

    Raises:
        ValueError: an unknown family or option.
    """
    name = family.lower()
    if name not in FAMILIES:
        raise ValueError(f"no family is named {family!r}{similar(name, FAMILIES)}; there are {', '.join(FAMILIES)}.")
    module, _, attribute = FAMILIES[name].partition(":")
    make = getattr(importlib.import_module(module), attribute)
    known = {p: x for p, x in inspect.signature(make).parameters.items() if p != "species"}
    for option in options:
        if option not in known:
            raise ValueError(f"{family} has no option {option!r}{similar(option, known)}; it has {', '.join(known)}.")
    missing = [p for p, x in known.items() if x.default is inspect.Parameter.empty and p not in options]
    if missing:
        raise ValueError(f"{family} needs the option {', '.join(missing)}.")
    return make(species, **{k: hashable(v) for k, v in options.items()})


def nep(
    species: tuple[int, ...],
    cutoff: float | tuple[float, float] = (8.0, 4.0),
    n_max: tuple[int, int] = (4, 4),
    basis_size: tuple[int, int] = (8, 8),
    l_max: tuple[int, ...] = (4, 2, 0),
    neurons: int = 30,
    version: int = 4,
    charge_mode: int = 0,
    model_type: int = 0,
):
    """Return a NEP with the words and defaults of GPUMD's nep.in.

    Args:
        cutoff: radial and angular, Å; one number for both.
        n_max, basis_size: radial and angular.
        l_max: of the three-body terms; then 2 for the four-body term, and 1 for the five-body term.
        charge_mode: 1, 2 or 3 for a qNEP, see `NEPCharge`; 0 for none.
        model_type: 0 for energies, 1 for dipoles, see `NEPDipole`.
    """
    from jaxmlp.potentials.nep import NEP
    from jaxmlp.potentials.nep_charge import NEPCharge
    from jaxmlp.potentials.nep_tensor import NEPDipole

    radial, angular = cutoff if isinstance(cutoff, tuple) else (cutoff, cutoff)
    s = len(species)
    l_three, l_four, l_five = (*l_max, 0, 0)[:3]
    if l_four not in (0, 2) or l_five not in (0, 1):
        raise ValueError(f"nep: l_max is (three-body, 0 or 2, 0 or 1); got {l_max}.")
    extra = ("222",) * (l_four == 2) + ("1111",) * (l_five == 1)
    if model_type not in (0, 1) or charge_mode not in (0, 1, 2, 3) or (model_type and charge_mode):
        raise ValueError(
            "nep: charge_mode is 0 to 3, model_type 0 (energies) or 1 (dipoles), and one of the two is 0; got "
            f"{charge_mode} and {model_type}."
        )
    make = partial(NEPCharge, mode=charge_mode) if charge_mode else NEPDipole if model_type else NEP
    return make(species, (radial,) * s, (angular,) * s, n_max, basis_size, l_three, extra, neurons, version)


def drawn(potential: Potential, key: Array, dtype) -> Params:
    """Return the starting parameters that a potential draws.

    Raises:
        ValueError: it draws none.
    """
    make = getattr(potential, "init", None)
    if make is None:
        raise ValueError(f"{type(potential).__name__} draws no starting parameters: give a file to start from.")
    return make(key, dtype)


def hashable(value: Any) -> Any:
    """Return lists as tuples, and symbols of elements as they are."""
    if isinstance(value, list | tuple):
        return tuple(hashable(x) for x in value)
    if isinstance(value, Mapping):
        raise ValueError(f"a mapping is no value of an option; got {dict(value)}.")
    return value


def similar(word: str, known) -> str:
    """ " (did you mean ...?)" where a known word is near, else nothing."""
    near = difflib.get_close_matches(word, list(known), 1)
    return f" (did you mean {near[0]!r}?)" if near else ""
