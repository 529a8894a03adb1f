"""Seconds from a Python function to its first result: tracing, compilation, and the second run's time beside them."""

from common import SHARED, crystal, emit, pin, seconds, setup


def main(quick: bool = False) -> None:
    pin()
    jax = setup()
    import jax.numpy as jnp

    import jaxmlp as jm
    from jaxmlp.potentials.pair import lennard_jones
    from jaxmlp.potentials.stillinger_weber import stillinger_weber_silicon

    models = {"Lennard-Jones": ("Ar", lennard_jones((18,), 0.0104, 3.4, 8.5))}
    models["Stillinger-Weber"] = ("Si", stillinger_weber_silicon())
    if not quick:
        models["C_2022_NEP4.txt"] = ("C", jm.load(SHARED / "nep" / "models" / "C_2022_NEP4.txt"))
        models["PbTe_NEP4.txt"] = ("PbTe", jm.load(SHARED / "nep" / "models" / "PbTe_NEP4.txt"))
    rows = []
    for name, (kind, (potential, params)) in models.items():
        system = jm.System.from_ase(crystal(kind, 3))
        R, box = jnp.asarray(system.R), jnp.asarray(system.box)
        search = jm.NeighborSearch.allocate(system.R, system.box, system.pbc, potential.shells)
        energy = jm.energy_fn(potential, system)
        functions = {
            "neighbour search": (jax.jit(search), (R, box)),
            "energy": (jax.jit(energy), (R, box, params)),
            "energy and forces": (jax.jit(jax.value_and_grad(energy)), (R, box, params)),
            "Hessian times vector": (jax.jit(jm.hvp(energy)), (R, box, params, R)),
        }
        for what, (f, arguments) in functions.items():
            first = seconds(lambda f=f, a=arguments: jax.block_until_ready(f(*a)))
            again = seconds(lambda f=f, a=arguments: jax.block_until_ready(f(*a)))
            rows.append({"benchmark": "first call", "system": name, "atoms": len(system), "code": what,
                         "first_call_s": first, "us_per_atom": again / len(system) * 1e6})  # fmt: skip
    emit(rows)


if __name__ == "__main__":
    import sys

    main("--quick" in sys.argv)
