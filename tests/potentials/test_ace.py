"""ACE from scratch: the generated functions are complete and independent; what is linear is."""

from collections import Counter, defaultdict
from itertools import combinations_with_replacement, groupby

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmlp as jm
from jaxmlp.formats import ace as files
from jaxmlp.potentials.ace import ACE, ACEBond, ACEEmbedding
from jaxmlp.potentials.ace_functions import _intermediate, ace, functions, independent, scalars
from jaxmlp.potentials.ace_tables import terms


def cluster(species, atoms: int, seed: int = 0) -> jm.System:
    """Random atoms, at least 1.6 Å apart, all within 5 Å of the origin or so."""
    rng = np.random.default_rng(seed)
    R = np.zeros((1, 3))
    while len(R) < atoms:
        new = rng.uniform(-3.0, 3.0, 3)
        if np.linalg.norm(R - new, axis=1).min() > 1.6:
            R = np.vstack([R, new])
    return jm.System(np.resize(species, atoms), R)


def environments(potential, count: int) -> np.ndarray:
    """Descriptors of `count` random environments of the first species, (count, functions)."""
    out = []
    for seed in range(count):
        system = cluster(potential.species, 25, seed)
        if seed == 0:
            f = jax.jit(jm.site_fn(potential, system, "descriptors", headroom=1.0))
            params = potential.init(jax.random.key(0))
        out.append(np.asarray(f(system.R, None, params))[0])
    return np.array(out)


def rank(rows: np.ndarray) -> int:
    """Rank of rows of unit length."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return int(np.linalg.matrix_rank(rows / np.where(length > 0, length, 1.0), tol=1e-9))


def as_rows(listed) -> np.ndarray:
    """Functions as vectors over products of moments."""
    parts = [dict(terms(f)[0]) for f in listed]
    columns = sorted({p for part in parts for p in part})
    return np.array([[part.get(p, 0.0) for p in columns] for part in parts])


def integrated(ls, groups) -> float:
    """The number of invariants: the product of the characters of the symmetric powers, averaged over rotations."""
    nodes, weights = np.polynomial.legendre.leggauss(80)
    angle = np.pi * (nodes + 1) / 2

    def character(l, times):
        return 1 + 2 * sum(np.cos(m * times * angle) for m in range(1, l + 1))

    value, at = np.ones_like(angle), 0
    for count in groups:
        h = [np.ones_like(angle)]  # Newton: k h_k = sum_i p_i h_(k - i)
        for k in range(1, count + 1):
            h.append(sum(character(ls[at], i) * h[k - i] for i in range(1, k + 1)) / k)
        value, at = value * h[count], at + count
    return float(np.sum(weights / 2 * (1 - np.cos(angle)) * value))


@pytest.mark.parametrize(("order", "largest"), [(2, 4), (3, 4), (4, 3), (5, 2), (6, 2)])
def test_functions_are_as_many_as_invariants(order, largest):
    """Two channels n of every l: all ways in which factors are equal. The rank is that of all couplings together."""
    seen = 0
    for channels in combinations_with_replacement([(l, n) for l in range(largest + 1) for n in (1, 2)], order):
        ls, ns = zip(*channels, strict=True)
        if sum(ls) % 2:
            continue
        groups = tuple(len(list(same)) for _, same in groupby(channels))
        assert scalars(ls, groups) == pytest.approx(integrated(ls, groups), abs=1e-9)
        lints = independent(ls, groups)
        assert len(lints) == scalars(ls, groups)
        if lints and order < 6:
            listed = [((0,) * order, ns, ls, lint, ()) for lint in _intermediate(ls)]
            assert rank(as_rows(listed)) == len(lints)
        if lints:
            assert rank(as_rows([((0,) * order, ns, ls, lint, ()) for lint in lints])) == len(lints)
        seen += len(lints) > 1
    assert seen or order < 4


def test_descriptors_of_random_environments_have_full_rank():
    """Repeated factors up to rank 6; with all intermediate angular momenta the rank is no larger."""
    potential = ace((14,), 5.0, n_max=(4, 2, 2, 1, 1, 1), l_max=(0, 2, 2, 3, 2, 1))
    B = environments(potential, 250).T
    assert potential.size == len(B) > 50
    assert rank(B) == potential.size
    multisets = {f[:3] for f in potential.functions[0]}
    every = [(*f, lint, ()) for f in sorted(multisets) for lint in (_intermediate(f[2]) if len(f[2]) > 1 else [()])]
    over = ACE((14,), potential.bonds, potential.embeddings, (tuple(every),), potential.n_max, potential.l_max)
    assert over.size > potential.size
    assert rank(environments(over, 250).T) == potential.size


def test_descriptors_of_two_species_have_full_rank():
    potential = ace((14, 8), [[5.0, 4.5], [4.5, 4.8]], n_max=(2, 2, 1, 1), l_max=(0, 2, 2, 1))
    own = len(potential.functions[0])
    assert potential.size == 2 * own
    assert rank(environments(potential, 3 * own)[:, :own].T) == own


@pytest.mark.shared
def test_published_functions_are_among_the_generated(shared):
    names = sorted((shared / "reference" / "ace" / "models").glob("*.yaml"))
    assert len(names) == 4
    for name in names:
        potential, _ = files.load(name)
        for block in potential.functions:
            by_rank = defaultdict(list)
            for f in block:
                by_rank[len(f[0])].append(f)
            n_max, l_max = (tuple(max(max(f[k]) for f in by_rank[r]) for r in sorted(by_rank)) for k in (1, 2))
            generated, published = defaultdict(list), defaultdict(list)
            for out, listed in (generated, functions(len(potential.species), n_max, l_max)), (published, block):
                for f in listed:
                    out[tuple(sorted(zip(*f[:3], strict=True)))].append(f)
            for channels, fs in published.items():
                assert rank(as_rows(generated[channels] + fs)) == len(generated[channels]) >= len(fs), channels
            if name.stem == "Cu_pbe_in":  # complete up to its orders
                assert Counter(map(len, generated.values())) == Counter(map(len, published.values()))
                assert published.keys() == generated.keys()


def test_limits():
    everything = functions(2, (5, 3, 2), (0, 2, 2))
    assert len(set(everything)) == len(everything)
    assert all(sum(f[2]) % 2 == 0 for f in everything)

    for weight in (1.0, 0.5, 1 / 3, 2.5):

        def degree(f, weight=weight):
            return sum(f[1]) + weight * sum(f[2])

        listed = functions(2, (5, 3, 2), (0, 2, 2), degree=5.5, l_weight=weight)
        assert listed == [f for f in everything if degree(f) < 5.5 + 1e-9]
        some = functions(2, (5, 3, 2), (0, 2, 2), size=40, l_weight=weight)
        assert len(some) == 40
        assert max(map(degree, some)) <= min(degree(f) for f in everything if f not in some) + 1e-9
    for wrong in (
        {"n_max": ()},
        {"n_max": (3, 2)},
        {"l_max": (1, 2, 2)},
        {"n_max": (0, 1, 1)},
        {"degree": 0},
        {"l_weight": 0},
    ):
        with pytest.raises(ValueError, match=r"n_max|degree|l_weight"):
            functions(**{"species": 2, "n_max": (5, 3, 2), "l_max": (0, 2, 2)} | wrong)
    with pytest.raises(ValueError, match="more than"):
        functions(4, (9, 9, 9, 9), (0, 6, 6, 6))
    with pytest.raises(ValueError, match="embedding"):
        ace((14,), embedding="quadratic")
    with pytest.raises(ValueError, match="cutoff"):
        ace((14, 8), [5.0, 4.0, 3.0])
    with pytest.raises(ValueError, match="different atomic numbers"):
        ace(())


@pytest.mark.parametrize("embedding", ["linear", "finnis-sinclair"])
def test_a_model_from_scratch_is_saved_and_read(embedding, tmp_path):
    potential = ace((14, 8), 4.5, n_max=(3, 2, 1, 1, 1), l_max=(0, 2, 1, 1, 1), embedding=embedding)
    params = potential.init(jax.random.key(1))
    system = cluster((14, 8), 10)

    def value(potential, params):
        return jax.jit(jm.energy_fn(potential, system))(system.R, None, params)

    jm.save(tmp_path / "x.yace", potential, params)
    assert value(*jm.load(tmp_path / "x.yace")) == pytest.approx(float(value(potential, params)), rel=1e-12)
    jm.save(tmp_path / "x.safetensors", potential, params)
    assert jm.load(tmp_path / "x.safetensors")[0] == potential


@pytest.mark.parametrize("inner", ["density", "zbl"])
def test_the_energy_is_linear_in_what_it_says(inner):
    """Jointly: differences of the energy are those of the linear part, while cores switch the functions off."""
    linear = ACEEmbedding("FinnisSinclair", (1.0, 0.5), (1.0, 1.0), 4.0, 3.0)
    near = (1.8, 0.5) if inner == "zbl" else (0.0, 0.0)
    bond = ACEBond("SBessel", 3, 1.0, 4.5, 0.5, *near)
    listed = tuple(functions(2, (3, 2, 2), (0, 2, 1)))
    potential = ACE((14, 8), ((bond,) * 2,) * 2, (linear,) * 2, (listed,) * 2, 2, 2, inner=inner)
    params = potential.init(jax.random.key(0)) | {"core": jnp.full((2, 2, 2), 0.5)}
    part = potential.linear_parameters(params)
    part = {name: value for name, value in part.items() if value is not None}
    assert set(part) == {"c", "E0"} | ({"core"} if inner == "zbl" else set())
    system = cluster((14, 8), 10)
    energy = jax.jit(jm.energy_fn(potential, system))
    keys = iter(jax.random.split(jax.random.key(1), 6))
    a, b = ({k: jax.random.normal(next(keys), x.shape) for k, x in part.items()} for _ in range(2))
    value = lambda p: energy(system.R, None, params | p)
    middle = jax.tree.map(lambda x, y: 0.3 * x + 0.7 * y, a, b)
    assert value(middle) == pytest.approx(float(0.3 * value(a) + 0.7 * value(b)), rel=1e-12)
    if inner == "density":  # the core repulsion itself is not linear in its parameters, nor is it small here
        switched = energy(system.R, None, params | {"core": 2.0 * params["core"]})
        assert switched != pytest.approx(float(value(part)), rel=1e-3)


def test_with_a_nonlinear_embedding_coefficients_are_not_linear():
    potential = ace((14,), n_max=(2, 1), l_max=(0, 1), embedding="finnis-sinclair")
    assert potential.densities == 2
    part = potential.linear_parameters(potential.init(jax.random.key(0)))
    assert [name for name, value in part.items() if value is not None] == ["E0"]
