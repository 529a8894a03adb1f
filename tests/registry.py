"""Every potential that must obey the laws of `test_laws.py`: one line each."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

import jaxmlp as jm

jax.config.update("jax_enable_x64", True)  # parameters are made where this module is imported


@dataclass(frozen=True)
class Case:
    """A potential with parameters and a small crystal.

    Args:
        smooth: energy and forces go to zero continuously at the cutoff (False where the model truncates by definition).
        free: it makes sense without a box.
        strain: the virial is the derivative of the energy with respect to strain (False where its convention adds to
            that the correction for pairs that a strain moves across the cutoff).
        labelled: terms name atoms by their number, so that atoms cannot be exchanged or copied.
    """

    potential: jm.Potential
    params: Any
    system: jm.System
    smooth: bool = True
    free: bool = True
    strain: bool = True
    labelled: bool = False


def rattled(species: tuple[int, ...], spacing: float, seed: int = 0) -> jm.System:
    """Eight atoms on a skewed, rattled cubic grid: the cell is shorter than the cutoff of most potentials."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(2)] * 3, indexing="ij"), -1).reshape(-1, 3) * spacing
    box = 2 * spacing * (np.eye(3) + 0.1 * rng.uniform(-1, 1, (3, 3)))
    R = grid / (2 * spacing) @ box + 0.07 * spacing * rng.uniform(-1, 1, (8, 3))
    return jm.System(np.resize(species, 8), R, box)


def _lennard_jones(truncation: str, **options) -> Case:
    from jaxmlp.potentials.pair import lennard_jones

    potential, params = lennard_jones((18, 36), [0.0104, 0.0143], [3.4, 3.65], 6.5, truncation=truncation, **options)
    smooth, tail = truncation == "force-shifted", bool(options)
    return Case(potential, params, rattled((18, 36), 3.7), smooth=smooth, free=not tail, strain=not tail)


def _silicon() -> Case:
    from jaxmlp.potentials.stillinger_weber import stillinger_weber_silicon

    return Case(*stillinger_weber_silicon(), rattled((14,), 2.7))


def _nep(species=(14, 6), cls="NEP", **options) -> Case:
    """A random network, scaled to energies of some eV."""
    from jaxmlp.potentials import nep, nep_charge
    from jaxmlp.potentials.nep_zbl import NEPZBL

    cls = {"NEP": nep.NEP, "qNEP": nep_charge.NEPCharge}[cls]
    if options.get("zbl"):
        options["zbl"] = NEPZBL(*options["zbl"])
    s = len(species)
    potential = cls(
        species, (4.5,) * s, (3.8,) * s, n_max=(3, 2), basis_size=(4, 5), neurons=6, **{"l_max": 4} | options
    )  # fmt: skip
    system = rattled(species, 2.4)
    if isinstance(potential, nep_charge.NEPCharge):
        potential = potential.for_box(system.box, margin=1.0)
    return Case(potential, potential.init(jax.random.key(1)), system, free=potential.local)


def _mtp() -> Case:
    from jaxmlp.potentials.mtp import MTP

    potential = MTP((14, 6), cutoff=4.5, inner=1.5, radial_size=6, level=12)
    params = potential.init(jax.random.key(3))
    params["moment_coeffs"] = 0.3 * jax.random.normal(jax.random.key(4), params["moment_coeffs"].shape)
    return Case(potential, params, rattled((14, 6), 2.6))


def _snap(**options) -> Case:
    from jaxmlp.potentials.snap import SNAP

    potential = SNAP((42, 28), (0.5, 0.46), rcutfac=4.6, **options)
    params = potential.init(jax.random.key(6)) | {"weight": jax.numpy.asarray([1.0, 0.7])}
    return Case(potential, params, rattled((42, 28), 2.4))


def _bpnn() -> Case:
    from jaxmlp.basis.symmetry_functions import SymmetryFunction
    from jaxmlp.potentials.bpnn import BPNN

    functions = (
        SymmetryFunction(2, (6,), 4.3, eta=0.3, shift=1.0, cutoff_type=2),
        SymmetryFunction(2, (14,), 4.3, eta=0.3, shift=1.0, cutoff_type=2),
        SymmetryFunction(3, (6, 14), 3.9, eta=0.05, lambd=-1.0, zeta=2.0, cutoff_type=2),
        SymmetryFunction(9, (14, 14), 3.9, eta=0.05, zeta=4.0, cutoff_type=2),
    )
    potential = BPNN((14, 6), (functions, functions[:3]), ((5,), (4,)), (("t", "l"), ("t", "l")))
    return Case(potential, potential.init(jax.random.key(5)), rattled((14, 6), 2.6))


def _gap(turbo: bool = False) -> Case:
    """Every kind of descriptor: pairs, triplets, clusters and SOAP, or soap_turbo of both elements."""
    from jaxmlp.basis.covariance import Covariance
    from jaxmlp.basis.gap_clusters import Angle3b, Distance2b, DistanceNb
    from jaxmlp.basis.soap import SOAP
    from jaxmlp.basis.soap_turbo import SOAPTurbo
    from jaxmlp.potentials.gap import GAP, GAPTerm

    gauss, dot = Covariance("ard_se"), Covariance("dot_product", zeta=2.0)
    if turbo:
        shape = dict(l_max=2, alpha_max=(3, 2), atom_sigma_r=(0.4, 0.5), atom_sigma_r_scaling=(0.1, 0.0))
        shape |= dict(atom_sigma_t=(0.5, 0.4), atom_sigma_t_scaling=(0.0, 0.1), amplitude_scaling=(1.0, 1.5))
        one, two = (
            SOAPTurbo((14, 8), 4.4, 3.9, central_weight=(1.0, 0.7), central_index=k, basis="poly3gauss", **shape)
            for k in (1, 2)
        )
        processes = [GAPTerm(one, dot, 3), GAPTerm(two, dot, 4)]
    else:
        cluster = DistanceNb(3, 3.2, 0.6, (8, 14, 14), compact_clusters=False)
        processes = [
            GAPTerm(Distance2b(4.4, 0.8, (14, 8)), gauss, 4),
            GAPTerm(Angle3b(3.4, 0.7, 14, (14, 8)), gauss, 5),
            GAPTerm(cluster, Covariance("ard_se", permutations=cluster.permutations), 3),
            GAPTerm(SOAP((14, 8), 4.4, 3, 3, 0.6, 0.8), dot, 6, center=8),
        ]
    potential = GAP((14, 8), tuple(processes))
    return Case(potential, potential.init(jax.random.key(9)), rattled((14, 8), 2.4))


def _tersoff() -> Case:
    """Silicon (T3) of Tersoff, PRB 38, 9902 (1988), and a second element of slightly other size."""
    from jaxmlp.potentials.tersoff import PAIR, TRIPLET, tersoff

    numbers = {"A": 1830.8, "B": 471.18, "lambda1": 2.4799, "lambda2": 1.7322, "n": 0.78734, "beta": 1.1e-6}
    numbers |= {"R": 2.85, "D": 0.15, "gamma": 1.0, "lambda3": 1.1, "c": 1.0039e5, "d": 16.217, "cos_angle": -0.59825}
    other = {"A": 1.03, "R": 1.02, "c": 0.98}
    grade = 1 + 0.1 * np.arange(2)
    values = {k: numbers[k] * np.where(grade > 1, other.get(k, 1.0), 1.0) for k in numbers}
    values = {k: np.broadcast_to(values[k], (2, 2) if k in PAIR else (2, 2, 2)) for k in (*PAIR, *TRIPLET)}
    return Case(*tersoff((14, 32), values | {"m": np.full((2, 2, 2), 3)}), rattled((14, 32), 2.5))


def _morse() -> Case:
    from jaxmlp.potentials.pair import Morse

    params = {k: np.full((1, 1), x) for k, x in {"depth": 0.34, "alpha": 1.36, "length": 2.87}.items()}
    return Case(Morse((29,), 5.5, "force-shifted"), params, rattled((29,), 2.6))


def _uhlenbeck_ford() -> Case:
    from jaxmlp.potentials.uhlenbeck_ford import uhlenbeck_ford

    return Case(*uhlenbeck_ford((18, 36), 25.0, 900.0, 1.3), rattled((18, 36), 2.6))


def _silvera_goldman() -> Case:
    from jaxmlp.potentials.silvera_goldman import silvera_goldman

    return Case(*silvera_goldman(6.5, truncation="force-shifted"), rattled((1,), 2.6))


def _zbl() -> Case:
    from jaxmlp.potentials.zbl import zbl

    return Case(*zbl((14, 8), 2.0, 3.2), rattled((14, 8), 1.8))


def _eam() -> Case:
    """The tables of the LAMMPS comparison: an analytic copper-aluminium alloy."""
    import importlib.util
    import tempfile
    from pathlib import Path

    from jaxmlp.formats import lammps_eam

    spec = importlib.util.spec_from_file_location("tables", Path(__file__).parent / "potentials/lammps_reference.py")
    tables = importlib.util.module_from_spec(spec)
    sys.modules["tables"] = tables  # dataclasses look their module up
    spec.loader.exec_module(tables)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "CuAl.eam.alloy"
        path.write_text(tables.REFERENCES["eam-alloy"].text())
        return Case(*lammps_eam.load(path), rattled((29, 13), 2.6))


def _bonded(kind: str) -> Case:
    from jaxmlp.potentials import bonded

    chain = np.array([0, 1, 3, 2, 6, 7, 5, 4])
    cls, params = {
        "bond": (bonded.HarmonicBond, {"k": 20.0, "length": 1.6}),
        "angle": (bonded.HarmonicAngle, {"k": 3.0, "angle": 1.9}),
    }[kind]
    atoms = np.stack([np.roll(chain, -k) for k in range(cls.size)], 1)[: 9 - cls.size]
    params = {name: np.linspace(0.9, 1.1, len(atoms)) * x for name, x in params.items()}
    return Case(cls((6,), atoms), params, rattled((6,), 1.7), labelled=True)


def _ace(inner: str) -> Case:
    """Two species, functions of ranks 1 to 5, two embeddings, cores near enough to repel."""
    from jaxmlp.potentials import ace

    functions = []
    for own in range(2):
        block = [((mu,), (n,), (0,), (), ()) for mu in range(2) for n in (1, 2, 3)]
        block += [((0, 1), (1, 2), (l, l), (), ()) for l in range(4)]
        block += [((own, 1, 0), (1, 1, 2), (1, 2, 3), (3,), ()), ((0, 0, 1), (1, 2, 2), (2, 2, 2), (2,), ())]
        block += [((0, 0, 1, 1), (1, 1, 2, 1), (1, 2, 2, 1), (k, k), ()) for k in (1, 2, 3)]
        block += [((0, 0, 1, own, 1), (1, 2, 1, 1, 1), (1, 1, 2, 1, 1), (2, 2, 1), ())]
        functions.append(tuple(block))
    families = [["ChebExpCos", "ChebPow"], ["ChebPow", "SBessel"]]
    near = {"inner_cutoff": 2.0, "inner_width": 0.6} if inner != "density" else {}
    bonds = tuple(tuple(ace.ACEBond(f, 3, 3.0, 4.5, 0.5, **near) for f in row) for row in families)
    embeddings = (
        ace.ACEEmbedding("FinnisSinclairShiftedScaled", (1.0, 0.5), (1.0, 0.5), 4.0, 3.0),
        ace.ACEEmbedding("FinnisSinclair", (1.0, 0.7), (1.0, 0.6), 5.0, 3.0),
    )
    potential = ace.ACE((14, 8), bonds, embeddings, tuple(functions), n_max=2, l_max=3, inner=inner)
    params = potential.init(jax.random.key(2))
    core = (
        0.2 * np.ones((2, 2, 2))
        if inner == "zbl"
        else np.array([[[30.0, 1.0], [25.0, 0.9]], [[25.0, 0.9], [20.0, 0.8]]])
    )
    return Case(potential, params | {"core": jax.numpy.asarray(core)}, rattled((14, 8), 2.3), smooth=True)


def _ace_from_scratch() -> Case:
    """All functions up to rank 5 of two species, with repeated factors; linear."""
    from jaxmlp.potentials.ace_functions import ace

    potential = ace((14, 8), 4.5, n_max=(3, 2, 2, 1, 1), l_max=(0, 3, 2, 1, 1))
    params = potential.init(jax.random.key(7))
    return Case(potential, params | {"c": 0.3 * params["c"]}, rattled((14, 8), 2.3))


def _ani() -> Case:
    from jaxmlp.potentials.ani import ani

    options = {"radial_cutoff": 4.3, "angular_cutoff": 3.4, "radial_shifts": (1.0, 2.5), "angular_shifts": (1.2,)}
    potential = ani((6, 8), **options, angles=2, nodes={6: (5,), 8: (4,)})
    return Case(potential, potential.init(jax.random.key(8)), rattled((6, 8), 2.4))


def _deepmd(kind: str) -> Case:
    """Small Deep Potentials with statistics of the crystal; no atom has more neighbours than `sel`."""
    from jaxmlp.basis.deepmd_networks import embedding, fitting
    from jaxmlp.potentials import deepmd as dp
    from jaxmlp.potentials.deepmd_zbl import DeepZBL

    species, system = (8, 1), rattled((8, 1), 2.0)
    net = embedding(1, (3, 6), timestep=True)
    parts = {
        "se_a": (dp.SeE2A(4.0, 1.0, (40, 40), net, axis=3),),
        "hybrid": (dp.SeE2R(3.6, 1.0, (40, 40), net, True), dp.SeE3(2.9, 0.5, (20, 20), net)),
        "attention": (dp.SeAtten(3.6, 1.0, 60, 2, net, embedding(4, (3, 6)), 2, axis=3, attention=1, hidden=4),),
        "concat": (dp.SeAtten(4.0, 1.0, 80, 2, embedding(5, (3, 6)), None, 2, axis=3, smooth=False),),
    }
    chosen = parts.get(kind, parts["se_a"])
    width = sum(part.size for part in chosen)
    deep = dp.DeepPotential(species, chosen, fitting(width, (8, 8)), mixed=kind in ("attention", "concat"))
    params = dp.statistics(deep, deep.init(jax.random.key(9)), [system])
    if kind == "concat":
        return Case(*deep.compress(params, closest=1.0), system)
    if kind != "zbl":
        return Case(deep, params, system)
    potential = DeepZBL(deep, 3.5, 0.0, 0.1, 35, 1.2, 2.4, 0.2, 80)
    knots = 4.0 * (1 - np.arange(36) / 35) ** 4  # a clamped cubic spline of a repulsion that ends with zero slope
    from scipy.interpolate import CubicSpline

    rows = CubicSpline(np.arange(36), knots, bc_type="clamped").c.T
    params = potential.init(jax.random.key(0)) | {"deep": params}
    return Case(potential, params | {"table": jax.numpy.asarray(np.broadcast_to(rows, (2, 2, 35, 4)))}, system)


def _mace() -> Case:
    """Every kind of term: transformed distances, a repulsive core, a density of neighbours, scalars and vectors."""
    from jaxmlp.potentials.mace import MACE

    blocks = ("RealAgnosticDensityInteractionBlock", "RealAgnosticDensityResidualInteractionBlock")
    options = {"distance_transform": "agnesi", "zbl": True, "num_bessel": 4, "radial_mlp": (6,), "mlp": 4}
    potential = MACE((14, 8), 3.8, hidden="3x0e+3x1o", max_ell=2, correlation=(3, 2), interactions=blocks, **options)
    return Case(potential, potential.init(jax.random.key(10)), rattled((14, 8), 2.3))


def _mace_atoms() -> Case:
    """A block whose radial network sees the atoms, with edges of other irreps and densities and tables that matter."""
    from jaxmlp.potentials.mace import MACE

    options = {"num_bessel": 4, "radial_mlp": (6,), "mlp": 4, "apply_cutoff": False, "edge": "2x0e+2x1o"}
    blocks = ("RealAgnosticResidualNonLinearInteractionBlock",) * 2
    potential = MACE((14, 8), 3.8, hidden="3x0e+3x1o", max_ell=2, correlation=(2, 2), interactions=blocks, **options)
    params = potential.init(jax.random.key(11))
    louder = lambda x: 800 * x
    wake = {"alpha": lambda x: x / 10, "beta": lambda x: x + 1, "source": louder, "target": louder}
    layers = (layer | {n: f(layer[n]) for n, f in wake.items()} for layer in params["layers"])
    return Case(potential, params | {"layers": tuple(layers)}, rattled((14, 8), 2.3))


def _network(kind: str) -> Case:
    """Small random graph networks, with offsets and biases that are not zero."""
    from jaxmlp.potentials import dimenet, egnn, painn, schnet

    species = (14, 6)
    few = dict(cutoff=4.3, n_features=8, n_interactions=2, n_radial=6, hidden=(5,))
    shared = dict(shared_interactions=True)
    small = dict(n_interaction=5, n_basis=4, n_output=6, n_spherical=3, n_radial=2, n_after=1, n_output_layers=1)
    pairs = dict(envelope=False, normalize=True, tanh=True, aggregation="sum")
    potential = {
        "schnet": lambda: schnet.SchNet(species, **few, n_filters=6),
        "schnet-shared": lambda: schnet.SchNet(species, **few, radial="bessel", cutoff_function="mollifier", **shared),
        "painn": lambda: painn.PaiNN(species, **few | {"n_interactions": 3}, radial="bessel"),
        "painn-shared": lambda: painn.PaiNN(species, **few, radial="centered", shared_filters=True, **shared),
        "dimenet++": lambda: dimenet.DimeNetPlusPlus(species, 4.0, n_features=8, n_blocks=1, **small),
        "egnn": lambda: egnn.EGNN(species, 4.3, n_features=8, n_layers=3, attention=True),
        "egnn-all-pairs": lambda: egnn.EGNN(species, 4.3, n_features=8, n_layers=2, **pairs),
    }[kind]()
    params = potential.init(jax.random.key(10))
    keys = iter(jax.random.split(jax.random.key(11), len(jax.tree.leaves(params))))
    params = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(next(keys), x.shape, x.dtype), params)
    return Case(potential, params, rattled(species, 2.5), smooth=kind != "egnn-all-pairs")


def _nequip(species=(14, 6), **options) -> Case:
    """Unequal widths, both parities, numbers of neighbours by species."""
    from jaxmlp.potentials.nequip import NequIP, layer_irreps

    options = {"l_max": 2, "irreps": layer_irreps((4, 3, 2), 2, 3)} | options
    potential = NequIP(
        species, 4.0, embedding=4, bessels=5, radial=((6,),), readout=(5,), neighbors=(9.0, 11.0), **options
    )
    params = potential.init(jax.random.key(21))
    return Case(potential, params | {"scale": 3.0 * params["scale"]}, rattled(species, 2.3))


def _allegro(**options) -> Case:
    from jaxmlp.potentials.allegro import Allegro, tracked_irreps

    options = {"l_max": 2, "tracked": tracked_irreps(2), "scalar_embed": (6,)} | options
    sizes = {"features": (5, 4), "embedding": 6, "bessels": 5, "latent": (6,), "readout": (5,)}
    potential = Allegro((14, 6), 4.0, **sizes, neighbors=(9.0, 11.0), **options)
    params = potential.init(jax.random.key(22))
    return Case(potential, params | {"scale": 3.0 * params["scale"]}, rattled((14, 6), 2.3))


def _restrained() -> Case:
    """A spring on variables that need neighbours: terms of the whole system, in a list of its own reach."""
    from jaxmlp.sampling import Coordination, Stack, Steinhardt, restraint

    cv = Stack((Coordination(5.2, 3.4, r0=3.0), Steinhardt(4, 4.8, 3.0, averaged=True)))
    return Case(*restraint(cv, (18, 36), 0.7, [3.0, 0.8]), rattled((18, 36), 3.7), labelled=True)


CASES: dict[str, Callable[[], Case]] = {
    "lennard-jones-truncated": lambda: _lennard_jones("truncated"),
    "lennard-jones-force-shifted": lambda: _lennard_jones("force-shifted"),
    "lennard-jones-tail": lambda: _lennard_jones("truncated", tail=True),
    "stillinger-weber": _silicon,
    "tersoff": _tersoff,
    "mtp": _mtp,
    "bpnn": _bpnn,
    "ani": _ani,
    "deepmd": lambda: _deepmd("se_a"),
    "deepmd-radial-and-triplets": lambda: _deepmd("hybrid"),
    "deepmd-attention": lambda: _deepmd("attention"),
    "deepmd-compressed": lambda: _deepmd("concat"),
    "deepmd-zbl": lambda: _deepmd("zbl"),
    "mace": _mace,
    "mace-nonlinear": _mace_atoms,
    "nequip": _nequip,
    "nequip-options": lambda: _nequip(
        irreps=("3x0e+2x0o+2x1o", "3x0e+2x0o+2x1o", "4x0e"),
        l_max=1,
        cutoffs=((4.0, 3.4), (3.6, 3.0)),
        zbl=14.4,
        self_connection="first",
        residual=True,
        scalars=("ssp", "tanh"),
        convention="0.4.4",
    ),
    "allegro": _allegro,
    "allegro-splines": lambda: _allegro(
        splines=(6, 4),
        tracked="0e+1o+2e",
        individual=False,
        coupled=False,
        activations=(None, "mish", "gelu"),
        zbl=14.4,
    ),
    "schnet": lambda: _network("schnet"),
    "schnet-shared": lambda: _network("schnet-shared"),
    "painn": lambda: _network("painn"),
    "painn-shared": lambda: _network("painn-shared"),
    "dimenet++": lambda: _network("dimenet++"),
    "egnn": lambda: _network("egnn"),
    "egnn-all-pairs": lambda: _network("egnn-all-pairs"),
    "gap": _gap,
    "gap-turbo": lambda: _gap(turbo=True),
    "snap": lambda: _snap(twojmax=4),
    "snap-quadratic": lambda: _snap(twojmax=3, quadraticflag=True, sinner=(1.5, 1.6), dinner=(0.4, 0.5)),
    "snap-elements": lambda: _snap(twojmax=2, chemflag=True, wselfallflag=True),
    "morse": _morse,
    "silvera-goldman": _silvera_goldman,
    "uhlenbeck-ford": _uhlenbeck_ford,
    "restraint": _restrained,
    "zbl": _zbl,
    "eam-alloy": _eam,
    "harmonic-bonds": lambda: _bonded("bond"),
    "harmonic-angles": lambda: _bonded("angle"),
    "nep4": _nep,
    "nep3-five-body": lambda: _nep(version=3, extra=("222", "1111")),
    "nep5-all-terms": lambda: _nep(version=5, extra=("222", "1111", "112", "123", "233", "134")),
    "nep4-zbl": lambda: _nep(zbl=(1.5, 3.5, 3.8)),
    "qnep-ewald": lambda: _nep(cls="qNEP", mode=1),
    "qnep-real-space": lambda: _nep(cls="qNEP", mode=3),
    "ace": lambda: _ace("density"),
    "ace-distance": lambda: _ace("distance"),
    "ace-from-scratch": _ace_from_scratch,
    "ace-zbl": lambda: _ace("zbl"),
    "nep4-edge-mixing": lambda: _nep((14, 6, 8), mixing="edge", l_max=6),
}

# These differ from another in a detail of their energies; the laws that cost most take that other.
VARIANTS = {
    "ani",
    "mace-nonlinear",
    "nequip-options",
    "allegro-splines",
    "schnet-shared",
    "painn-shared",
    "egnn-all-pairs",
    "nep4-zbl",
    "ace-from-scratch",
    "deepmd-compressed",
    "deepmd-zbl",
    "gap-turbo",
    "lennard-jones-truncated",
    "nep3-five-body",
    "qnep-real-space",
    "ace-distance",
    "ace-zbl",
    "snap-elements",
}
