"""Labels from potentials: a teacher for distillation, and a base for learning differences."""

from collections.abc import Sequence

import jax
import numpy as np
from jax import Array, lax

from jaxmlp.evaluate import DEFAULT, Execution
from jaxmlp.fitting.accuracy import predict_structures
from jaxmlp.fitting.batches.batch import Batch
from jaxmlp.fitting.batches.loader import Loader
from jaxmlp.fitting.batches.predictions import check, hessian_product
from jaxmlp.fitting.data.structure import Structure
from jaxmlp.fitting.training.trainable import dtype_of
from jaxmlp.potential import Params, Potential
from jaxmlp.system import System


def label(
    configurations: Sequence[Structure | System],
    potential: Potential,
    params: Params,
    *,
    energy: bool = True,
    forces: bool = True,
    virial: bool = True,
    hessian_rows: int = 0,
    seed: int = 0,
    batch_size: int = 8,
    execution: Execution = DEFAULT,
) -> list[Structure]:
    """Return structures labelled by a potential, the teacher of a distillation, in the precision of `params`.

    Labels of these four kinds that structures have are replaced, or dropped where none are asked for: they are another
    reference's. Weights, groups, sources, dipoles and charges stay.

    Args:
        configurations: structures, or systems.
        energy, forces: whether to label these.
        virial: likewise, for systems that are periodic in three directions.
        hessian_rows: K, Hessian-vector products of each structure, along directions v drawn uniformly from the unit
            sphere in 3N dimensions; H v is what `jaxmlp.hvp` returns.
        seed: of the directions.
        batch_size: structures worked on together.

    Raises:
        ValueError: elements that the potential lacks, an energy that depends on atoms by number, negative hessian_rows.
    """
    check(potential)
    if hessian_rows < 0:
        raise ValueError(f"hessian_rows is a number of products and must not be negative; got {hessian_rows}.")
    structures = [s if isinstance(s, Structure) else Structure(s) for s in configurations]
    if not structures:
        return []
    found = predict_structures(
        potential, params, structures, forces=forces, virial=virial, batch_size=batch_size, execution=execution
    )
    rng = np.random.default_rng(seed)
    out = []
    for k, s in enumerate(structures):
        hessian = None
        if hessian_rows:
            v = _directions(rng, hessian_rows, len(s))
            hessian = (v, np.zeros_like(v))
        out.append(
            s.replace(
                energy=float(found.energy[k]) if energy else None,
                forces=None if found.forces is None else found.forces[k],
                virial=found.virial[k] if found.virial is not None and all(s.system.pbc) else None,
                hessian=hessian,
            )
        )
    if not hessian_rows:
        return out
    products = hessian_products(out, potential, params, batch_size=batch_size, execution=execution)
    return [s.replace(hessian=(s.hessian[0], p)) for s, p in zip(out, products, strict=True) if s.hessian]


def subtract(
    structures: Sequence[Structure],
    potential: Potential,
    params: Params,
    *,
    batch_size: int = 8,
    execution: Execution = DEFAULT,
) -> list[Structure]:
    """Return structures with energies, forces, virials and Hessian products less those of a base potential.

    A correction that is fitted to them makes, with the base, a potential for the labels: `base + correction`, with
    parameters (params of the base, of the correction). Dipoles and charges stay.

    Raises:
        ValueError: elements that the potential lacks, an energy that depends on atoms by number.
    """
    check(potential)
    if not structures:
        return []
    options: dict = {"batch_size": batch_size, "execution": execution}
    base = predict_structures(potential, params, structures, forces=True, virial=True, **options)
    assert base.forces is not None
    assert base.virial is not None
    products = hessian_products(structures, potential, params, **options)
    out = []
    for s, E, F, W, p in zip(structures, base.energy, base.forces, base.virial, products, strict=True):
        out.append(
            s.replace(
                energy=None if s.energy is None else s.energy - float(E),
                forces=None if s.forces is None else s.forces - F,
                virial=None if s.virial is None else s.virial - W,
                hessian=None if s.hessian is None else (s.hessian[0], s.hessian[1] - p),
            )
        )
    return out


def hessian_products(
    structures: Sequence[Structure],
    potential: Potential,
    params: Params,
    *,
    batch_size: int = 8,
    execution: Execution = DEFAULT,
) -> list[np.ndarray | None]:
    """Return of each structure H v (K, N, 3) eV/Å^2 along the directions v of its `hessian`; None where it has none.

    The Hessian of a batch is one block per structure, so that one derivative of its forces does for all of them.
    """
    chosen = [k for k, s in enumerate(structures) if s.hessian is not None]
    out: list[np.ndarray | None] = [None] * len(structures)
    if not chosen:
        return out
    options = {"dtype": dtype_of(params), "kinds": ("hessian",)}
    loader = Loader([structures[k] for k in chosen], potential, batch_size, **options)
    potential = loader.ready

    @jax.jit
    def products(params, batch: Batch) -> Array:
        return lax.map(lambda v: hessian_product(potential, params, batch, v, execution), batch.labels["directions"])

    for batch in loader.epoch():
        found = np.asarray(products(params, batch))
        owner = np.where(batch.real, batch.structure, -1)
        for place, i in enumerate(np.asarray(batch.ids).tolist()):
            if i >= 0:
                directions, _ = loader.structures[i].hessian or ((), ())
                out[chosen[i]] = found[: len(directions), owner == place]
    return out


def _directions(rng: np.random.Generator, count: int, atoms: int) -> np.ndarray:
    """Unit vectors (count, atoms, 3)."""
    v = rng.standard_normal((count, atoms, 3))
    return v / np.linalg.norm(v, axis=(1, 2), keepdims=True)
