"""The universal repulsion of nuclei."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against_lammps import agrees

import jaxmlp as jm
from jaxmlp.basis.screening import universal
from jaxmlp.potentials.zbl import ZBL, zbl
from jaxmlp.units import coulomb


def test_agrees_with_lammps():
    agrees("zbl", *zbl((14, 29), 1.5, 2.8), energy_factor=14.399645 / coulomb)  # LAMMPS' value of e^2/(4 pi eps0)


def test_nuclei_repel_as_bare_charges_when_near():
    potential, params = zbl((14, 29), 1.5, 2.8)
    system = jm.System([14, 29], [[0, 0, 0], [1.0, 0, 0]])
    energy = jax.jit(jm.energy_fn(potential, system))
    r = 1e-5
    # phi(x) = 1 + phi'(0) x, phi'(0) = -1.44 + ..., x = r / 0.11 Å: a relative change of 1.5e-4
    bare = coulomb * 14 * 29 / r
    found = energy(jnp.array([[0.0, 0, 0], [r, 0, 0]]), None, params)
    np.testing.assert_allclose(found, bare, rtol=3e-4)
    # Screening of the reduced distance: a sum of amplitudes that is 1 to the digits published.
    np.testing.assert_allclose(universal(jnp.zeros(())), 1.0, atol=1e-12)


def test_energy_force_and_curvature_end_at_zero():
    potential, params = zbl((14,), 1.5, 2.8)
    system = jm.System([14, 14], [[0, 0, 0], [2.0, 0, 0]])
    energy = jm.energy_fn(potential, system, skin=1.0)
    at = lambda r: energy(jnp.array([[0.0, 0, 0], [1.0, 0, 0]]) * r, None, params)
    orders = jax.jit(lambda r: (at(r), *jax.jvp(jax.grad(at), (r,), (1.0,))))
    np.testing.assert_allclose(orders(2.8 - 1e-9), 0, atol=1e-7)  # third derivatives of order 10 eV/Å^3
    assert orders(2.8 + 1e-9)[0] == 0


def test_restriction_and_refusals():
    potential, params = zbl((14, 29), 1.5, 2.8)
    smaller, p = potential.restrict(params, (29,))
    assert (smaller.species, p["charge"].tolist()) == ((29,), [29.0])
    with pytest.raises(ValueError, match="inner goes with"):
        ZBL((14,), 2.8)
    with pytest.raises(ValueError, match="between 0 and the cutoff"):
        zbl((14,), 3.0, 2.8)
