"""The interaction layers of a NequIP: irreps, paths, and what of them the energy depends on."""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from jaxmlp.basis.convolution import Path, paths
from jaxmlp.basis.irreps import Irreps, format_irreps, gate_input, label, parse_irreps, widths

if TYPE_CHECKING:
    from jaxmlp.potentials.nequip import NequIP


def layer_irreps(features: int | Sequence[int], l_max: int, layers: int, parity: bool = True) -> tuple[str, ...]:
    """Return `irreps` of a NequIP: every l up to l_max, with both parities or (-1)^l; scalars in the last layer.

    Args:
        features: number of channels, for all l or each.
    """
    mul = (features,) * (l_max + 1) if isinstance(features, int) else tuple(features)
    if len(mul) != l_max + 1:
        raise ValueError(f"layer_irreps needs one number of features or {l_max + 1}, for l = 0 ... {l_max}; got {mul}.")
    blocks = [(mul[l], l, p) for l in range(l_max + 1) for p in ((1, -1) if parity else ((-1) ** l,))]
    return (format_irreps(tuple(blocks)),) * (layers - 1) + (f"{mul[0]}x0e",)


class Layer(NamedTuple):
    """What one interaction layer takes and gives, and how much of that the energy depends on.

    Args:
        inputs, outputs: irreps of the features before and after.
        mixed: irreps before the gate.
        paths: of its convolution, in the order of the radial weights.
        made: names of the irreps of `mixed` that something needs.
        sent: names of the irreps of `inputs` that its convolution needs, of the neighbours.
        kept: names of the irreps of `inputs` that it needs, of the atom itself or of neighbours.
    """

    inputs: Irreps
    outputs: Irreps
    mixed: Irreps
    paths: tuple[Path, ...]
    made: frozenset[str]
    sent: frozenset[str]
    kept: frozenset[str]


@cache
def plan(potential: "NequIP") -> tuple[Layer, ...]:
    """The layers, from the last back: what nothing after it needs is not computed."""
    shapes = []
    inputs: Irreps = ((potential.embedding, 0, 1),)
    for text in potential.irreps:
        wanted = parse_irreps(text)
        reached = {path.target for path in paths(inputs, potential.l_max, wanted)}
        outputs = tuple(sorted((block for block in wanted if block[1:] in reached), key=lambda block: block[1] > 0))
        shapes.append((inputs, outputs))
        inputs = outputs
    layers: list[Layer] = []
    for k in reversed(range(len(shapes))):
        inputs, outputs = shapes[k]
        needed = layers[-1].kept if layers else frozenset({"0e"})
        mixed = gate_input(outputs)
        every = paths(inputs, potential.l_max, mixed)
        gated = any(l > 0 and label(l, p) in needed for _, l, p in outputs)
        made = needed | ({"0e"} if gated else set())
        sent = frozenset(label(*path.source) for path in every if label(*path.target) in made)
        kept = set(sent)
        if potential.in_layer(k, potential.self_connection):
            kept |= made & set(widths(inputs))
        if potential.in_layer(k, potential.residual) and inputs == outputs:
            kept |= needed
        layers.append(Layer(inputs, outputs, mixed, every, made, sent, frozenset(kept)))
    return tuple(reversed(layers))
