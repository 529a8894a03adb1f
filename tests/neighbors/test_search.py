"""The neighbour search against matscipy on thousands of random cells; overflow, skin and vmap."""

from dataclasses import replace
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matscipy.neighbours import neighbour_list

from jaxmlp.geometry import heights
from jaxmlp.neighbors import NeighborSearch
from jaxmlp.neighbors.grid import Grid

CUTOFF, INNER = 3.0, 1.8
# atoms, size of the cell (Å), capacity of a row; a search has one shape, so cells are drawn to fit it
KINDS = {"one atom": (1, (0.6, 1.5), 900), "a few": (6, (1.8, 6.0), 160), "some": (40, (8.0, 12.0), 60)}
CELLS = 105  # for each of 3 kinds and 8 periodicities: 2,520 cells; 10,080 with the slow ones


def static_search(kind: str, pbc) -> NeighborSearch:
    n, (small, _), slots = KINDS[kind]
    if kind == "some":
        grid = Grid((2, 2, 2), (1, 1, 1), n)
    else:
        reach = int(np.ceil(CUTOFF / (0.75 * small)))
        grid = Grid((1, 1, 1), tuple(reach if p else 0 for p in pbc), n)
    ghosts = {"one atom": 15**3, "a few": 3000, "some": 1200}[kind] if any(pbc) else 0
    return NeighborSearch(pbc, (INNER, CUTOFF), (slots // 2, slots), grid, ghosts)


def draw_cell(rng, kind: str, pbc):
    """A skewed cell, its heights above 3/4 of the smallest size, with atoms in and around it."""
    n, (small, large), _ = KINDS[kind]
    while True:
        box = np.diag(rng.uniform(small, large, 3)) @ (np.eye(3) + rng.uniform(-0.45, 0.45, (3, 3)))
        box = box @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
        if np.all(np.asarray(heights(box)) > (6.2 if kind == "some" else 0.75 * small)):
            break
    return rng.uniform(-1.5, 2.5, (n, 3)) @ box, box


def edges(neighbors):
    """All edges as rows (i, j, shift), sorted; checks the form of the rows on the way."""
    slots = neighbors.index.shape[1]
    mask, atoms, shift = (np.asarray(x) for x in (neighbors.mask, neighbors.atoms, neighbors.shift))
    i, m = np.nonzero(mask)
    j, s = atoms[i, m], shift[i, m]
    reverse = np.asarray(neighbors.reverse)
    assert np.all(reverse[~mask] == -1)
    back_atom, back_slot = reverse[i, m] // slots, reverse[i, m] % slots
    np.testing.assert_array_equal(back_atom, j)
    np.testing.assert_array_equal(atoms[j, back_slot], i)
    np.testing.assert_array_equal(shift[j, back_slot], -s)
    found = np.column_stack([i, j, s])
    return found[np.lexsort(found.T)], i, m, j, s


@pytest.mark.parametrize("cells", [CELLS, pytest.param(3 * CELLS, marks=pytest.mark.slow)])
@pytest.mark.parametrize("pbc", list(product((False, True), repeat=3)), ids=lambda p: "".join("ft"[x] for x in p))
@pytest.mark.parametrize("kind", KINDS)
def test_neighbours_are_those_of_an_independent_library(kind, pbc, cells):
    search = static_search(kind, pbc)
    run = jax.jit(search)
    rng = np.random.default_rng([list(KINDS).index(kind), *pbc, cells])
    inner_slots = search.capacities[0]
    for _ in range(cells):
        R, box = draw_cell(rng, kind, pbc)
        neighbors = run(R, box)
        assert not neighbors.overflow
        found, i, m, j, s = edges(neighbors)
        expected = np.column_stack(neighbour_list("ijS", positions=R, cell=box, pbc=pbc, cutoff=CUTOFF))
        np.testing.assert_array_equal(found, expected[np.lexsort(expected.T)])
        r = np.linalg.norm(R[j] + s @ box - R[i], axis=1)
        np.testing.assert_array_equal(m < inner_slots, r < INNER)


@pytest.fixture(scope="module")
def crystal():
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), -1).reshape(-1, 3)
    box = np.eye(3) * 10.0 + rng.uniform(-0.5, 0.5, (3, 3))
    return (grid / 4) @ box + rng.uniform(-0.3, 0.3, (64, 3)), box


PERIODIC = (True, True, True)


def test_free_atoms_need_no_box():
    R = np.random.default_rng(1).uniform(0, 8, (40, 3))
    search = NeighborSearch.allocate(R, None, (False,) * 3, (CUTOFF,))
    found, *_ = edges(search(R, None))
    expected = np.column_stack(neighbour_list("ijS", positions=R, cell=np.eye(3), pbc=[False] * 3, cutoff=CUTOFF))
    np.testing.assert_array_equal(found, expected[np.lexsort(expected.T)])


def test_an_atom_alone_has_no_neighbours():
    search = NeighborSearch.allocate(np.zeros((1, 3)), None, (False,) * 3, (CUTOFF,))
    assert not search(jnp.zeros((1, 3)), None).mask.any()


def test_vmap_is_a_loop(crystal):
    R, box = crystal
    search = NeighborSearch.allocate(R, box, PERIODIC, (CUTOFF,))
    Rs = jnp.stack([R, R + 0.05, R * 1.001])
    batched = jax.jit(jax.vmap(search, (0, None)))(Rs, jnp.asarray(box))
    for k in range(3):
        one = search(Rs[k], box)
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(batched)):
            np.testing.assert_array_equal(a, b[k])


def test_what_does_not_fit_is_flagged(crystal):
    R, box = crystal
    search = NeighborSearch.allocate(R, box, PERIODIC, (CUTOFF,), headroom=0.1)
    assert not search(R, box).overflow
    assert replace(search, capacities=(3,))(R, box).overflow
    assert replace(search, ghosts=10)(R, box).overflow
    assert replace(search, grid=replace(search.grid, capacity=1))(R, box).overflow
    assert search(R * 0.5, box * 0.5).overflow
    assert search(jnp.full_like(R, jnp.nan), box).overflow


@pytest.mark.parametrize("scale", [1.0, 0.97, 0.93, 0.91])
def test_the_headroom_holds_for_every_shell_of_a_compressed_system(crystal, scale):
    R, box = crystal
    search = NeighborSearch.allocate(R, box, PERIODIC, (2.4, 3.0), headroom=0.1)
    assert not search(R * scale, box * scale).overflow


def test_an_enlarged_search_holds_what_overflowed(crystal):
    R, box = crystal
    small = replace(NeighborSearch.allocate(R, box, PERIODIC, (CUTOFF,)), capacities=(4,))
    larger = NeighborSearch.allocate(R, box, PERIODIC, (CUTOFF,), at_least=small)
    assert not larger(R, box).overflow
    again = NeighborSearch.allocate(R, box, PERIODIC, (CUTOFF,), at_least=larger)
    assert again.capacities[0] > larger.capacities[0]


def test_a_list_with_skin_never_misses_a_pair(crystal):
    """A random walk of atoms and cell; the list in hand always holds every pair nearer than the cutoff."""
    R, box = (jnp.asarray(x) for x in crystal)
    search = NeighborSearch.allocate(R, box, PERIODIC, (INNER, CUTOFF), skin=0.6, headroom=0.2)
    update = jax.jit(search.update)
    neighbors = jax.jit(search)(R, box)
    rng = np.random.default_rng(5)
    rebuilt = 0
    for _ in range(60):
        R = R + 0.03 * rng.normal(size=R.shape)
        F = jnp.eye(3) + 0.004 * rng.normal(size=(3, 3))
        R, box = R @ F, box @ F
        new = update(neighbors, R, box)
        rebuilt += bool((new.R != neighbors.R).any())
        neighbors = new
        held = {tuple(e) for e in edges(neighbors)[0].tolist()}
        i, j, s = neighbour_list("ijS", positions=np.asarray(R), cell=np.asarray(box), pbc=[True] * 3, cutoff=CUTOFF)
        assert set(zip(i.tolist(), j.tolist(), *s.T.tolist())) <= held
    assert 5 < rebuilt < 60


def test_a_list_is_kept_until_an_atom_has_used_half_the_skin(crystal):
    R, box = (jnp.asarray(x) for x in crystal)
    search = NeighborSearch.allocate(R, box, PERIODIC, (CUTOFF,), skin=0.6)
    neighbors = search(R, box)
    assert not search.stale(neighbors, R.at[3, 1].add(0.299), box)
    assert search.stale(neighbors, R.at[3, 1].add(0.301), box)
    assert search.stale(neighbors, R * 1.3, box * 1.3)


def test_a_hundred_thousand_atoms():
    rng = np.random.default_rng(2)
    grid = np.stack(np.meshgrid(np.arange(50), np.arange(50), np.arange(40), indexing="ij"), -1).reshape(-1, 3)
    R, box = 2.5 * grid + rng.uniform(-0.4, 0.4, grid.shape), np.diag([125.0, 125.0, 100.0])
    search = NeighborSearch.allocate(R, box, PERIODIC, (CUTOFF,), headroom=0.03)
    neighbors = jax.jit(search)(R, box)
    assert not neighbors.overflow
    assert int(neighbors.mask.sum()) == len(neighbour_list("i", positions=R, cell=box, pbc=[True] * 3, cutoff=CUTOFF))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"shells": (3.0, 2.0)}, "growing"),
        ({"shells": (-1.0,)}, "positive"),
        ({"shells": (3.0,), "skin": -0.1}, "skin"),
    ],
)
def test_bad_cutoffs_are_refused(crystal, arguments, words):
    with pytest.raises(ValueError, match=words):
        NeighborSearch.allocate(*crystal, PERIODIC, **arguments)


def test_positions_that_are_not_numbers_are_refused(crystal):
    with pytest.raises(ValueError, match="NaN"):
        NeighborSearch.allocate(crystal[0] * np.nan, crystal[1], PERIODIC, (3.0,))
