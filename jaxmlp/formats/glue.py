"""The pair potentials of `<Glue_params>` in QUIP's XML files, which GAP files hold as their core potential."""

import numpy as np

from jaxmlp.formats.gap_xml import Element
from jaxmlp.potential import Params
from jaxmlp.potentials.glue import Glue, table

NATURAL = 0.99e30  # slopes above mean: second derivative 0
LARGEST = 10**6


def read_glue(element: Element, species: tuple[int, ...]) -> tuple[Glue, Params]:
    """Return the pair part of a glue potential for `species`, and its parameters.

    Elements that it does not have do not interact. Its densities do not matter as long as the embedding energy is 0.

    Raises:
        FormatError: what is missing or contradictory, or an embedding energy that is not 0.
    """
    count = element.integer("n_types", 1, 118)
    numbers: dict[int, int] = {}
    for kind in element.all("per_type_data"):
        numbers[kind.integer("type", 1, count)] = kind.integer("atomic_num", 1, 118)
        for name in ("potential_density", "potential_neighbours"):
            for embedding in kind.all(name):
                energies = [p.number("E") for p in embedding.all("point")]
                slopes = [embedding.number(s, default="2e30") for s in ("y1", "yn")]
                if any(energies) or any(s and s < NATURAL for s in slopes):
                    embedding.refuse("an embedding energy of 0: of a glue potential, pairs are supported only")
    if len(set(numbers.values())) != count or len(numbers) != count:
        element.refuse(f"<per_type_data> of {count} different elements, found {len(numbers)}")
    pairs: dict[tuple[int, int], tuple[float, dict]] = {}
    for pair in element.all("per_pair_data"):
        a, b = sorted(numbers[pair.integer(t, 1, count)] for t in ("type1", "type2"))
        for potential in pair.all("potential_pair"):
            points = potential.all("point")
            if len(points) != potential.integer("num_points", 2, LARGEST):
                potential.refuse(f"{potential.word('num_points')} <point>, found {len(points)}")
            if (a, b) in pairs:
                potential.refuse("every pair of elements once, found one again")
            r, E = (np.array([p.number(name) for p in points]) for name in ("r", "E"))
            if not 0 <= r.min() < r.max() < 1000:
                potential.refuse(f"distances r from 0 to 1000 Å, found {r.min():g} to {r.max():g}")
            ends = [potential.number(name, default="0") for name in ("y1", "yn")]
            try:
                values = table(r, E, *(None if slope > NATURAL else slope for slope in ends))
            except ValueError as error:
                potential.refuse(f"a table that makes sense: {error}")
            pairs[a, b] = (float(r.max()), values)
    kept = {pair: entry for pair, entry in pairs.items() if set(pair) <= set(species)}
    if not kept:
        element.refuse("a pair potential between elements of the GAP")
    cutoffs = tuple(cutoff for cutoff, _ in kept.values())
    return Glue(species, tuple(kept), cutoffs), tuple(values for _, values in kept.values())
