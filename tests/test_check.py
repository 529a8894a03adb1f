"""The validation card passes sound potentials and finds what is wrong with broken ones."""

import json
from dataclasses import dataclass
from io import StringIO

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk
from rich.console import Console

import jaxmlp as jm
from jaxmlp import check_report
from jaxmlp.check import SECTIONS, Card, Line, check
from jaxmlp.potentials.stillinger_weber import stillinger_weber_silicon
from jaxmlp.structures import example_system

pytestmark = pytest.mark.xdist_group("check")  # one worker makes the fixture, once


@dataclass(frozen=True)
class Sound(jm.Potential):
    """E_i = sum_j 5 u^6 - sqrt(sum_j u^4), u = 1 - r/rc; the subclasses break it."""

    species: tuple[int, ...] = (29,)
    cutoff: float = 4.0

    def site_energies(self, params, graph):
        return self.energies(params, graph, jnp.maximum(1 - graph.distances / self.cutoff, 0.0))

    def energies(self, params, graph, u):
        density = jnp.sum(u**4, axis=1)
        return params["a"] * jnp.sum(u**6, axis=1) - jnp.sqrt(jnp.where(density > 0, density, 1e-20))


class Stopped(Sound):
    def energies(self, params, graph, u):
        return super().energies(params, graph, u) + jnp.sum(jax.lax.stop_gradient(u) ** 3 * u, axis=1)


class Oriented(Sound):
    def energies(self, params, graph, u):
        return super().energies(params, graph, u) + 0.1 * jnp.sum(u**4 * graph.planes[0], axis=1) ** 3


class Absolute(Sound):
    local = False

    def energies(self, params, graph, u):
        return super().energies(params, graph, u) + 0.01 * jnp.sin(graph.R[:, 0])


class Numbered(Sound):
    local = False

    def energies(self, params, graph, u):
        return super().energies(params, graph, u) * (1 + 0.01 * jnp.arange(len(graph.R), dtype=u.dtype))


class Truncated(Sound):
    def energies(self, params, graph, u):
        return super().energies(params, graph, u) + 0.001 * jnp.sum(
            jnp.where(graph.distances < self.cutoff, 1.0, 0.0), axis=1
        )


class Kinked(Sound):
    def energies(self, params, graph, u):
        return super().energies(params, graph, u) + jnp.sum(0.4 * u, axis=1)


class TooFar(Sound):
    def energies(self, params, graph, u):
        return super().energies(params, graph, u) + 0.01 * jnp.sum(jnp.where(graph.mask, 1.0, 0.0), axis=1)


class Lost(Sound):
    def energies(self, params, graph, u):
        return super().energies(params, graph, u) + jnp.sqrt(jnp.sum(u**4, axis=1) * 0.0)


PARAMS = {"a": np.asarray(5.0)}


@pytest.fixture(scope="module")
def crystal() -> jm.System:
    atoms = bulk("Cu", a=3.8, cubic=True)
    atoms.rattle(0.05, seed=0)
    return jm.System.from_ase(atoms)


def failures(card: Card) -> set[str]:
    return {line.name.split(" (")[0] for line in card.lines if line.verdict == "FAIL"}


@pytest.mark.parametrize(
    ("broken", "section", "expected"),
    [
        (Stopped, "derivatives", {"force = -dE/dR", "stress = +(1/V) dE/dstrain, ASE's sign"}),
        (Oriented, "symmetry", {"rotation", "inversion"}),
        (
            Absolute,
            "symmetry",
            {"translation", "rotation", "inversion", "atoms moved by lattice vectors", "supercell = 2 cells"},
        ),
        (Numbered, "symmetry", {"permutation", "supercell = 2 cells"}),
        (Truncated, "curves", {"energy jumps along dimers and trimers"}),
        (Kinked, "curves", {"force jumps at the cutoffs"}),
        (TooFar, "neighbours", {"neighbours beyond the cutoff do not act"}),
        (Lost, "neighbours", {"energies, forces, virials finite", "neighbours beyond the cutoff do not act"}),
        (Stopped, "dynamics", {"NVE drift, mixed"}),
    ],
)
def test_a_broken_potential_fails_where_it_is_broken(crystal, broken, section, expected):
    card = check(broken(), PARAMS, crystal, sections=[section], precisions=["mixed"], steps=300)
    assert failures(card) == expected
    assert not card.passed


@pytest.fixture(scope="session")
def card() -> Card:
    return check(*stillinger_weber_silicon(), precisions=["float64"], steps=200)


def test_a_sound_potential_passes_everything(card):
    assert {line.verdict for line in card.lines} == {"PASS", "INFO"}
    assert card.passed
    assert [c.name for c in card.curves] == ["SiSi"]
    # The dimer of Stillinger-Weber silicon: -epsilon at 2^(1/6) sigma, by construction.
    assert card.curves[0].energy.min() == pytest.approx(-2.1683, abs=1e-3)
    assert set(card.drifts) == {"float64"}


def test_the_card_as_text_json_and_picture(card, tmp_path):
    console = Console(file=StringIO(), width=140)
    check_report.print_card(card, console)
    text = console.file.getvalue()
    assert "StillingerWeber, cutoff 3.77118 Å, on Si64 (64 atoms)" in text
    assert "all hard tests pass" in text
    check_report.write_json(card, tmp_path / "card.json")
    data = json.loads((tmp_path / "card.json").read_text())
    assert data["passed"]
    assert len(data["tests"]) == len(card.lines)
    check_report.write_png(card, tmp_path / "card.png")
    assert (tmp_path / "card.png").read_bytes()[:4] == b"\x89PNG"


def test_failures_say_why(crystal):
    lines = [Line("something", float("nan"), "eV", 1.0, "because"), Line("other", 2.0, "eV", 1.0, "soft", hard=False)]
    card = Card(Sound(), crystal, lines, [], {})
    assert [line.verdict for line in lines] == ["FAIL", "WARN"]
    console = Console(file=StringIO(), width=140)
    check_report.print_card(card, console)
    assert "why this limit: because" in console.file.getvalue()
    assert check_report.to_json(card)["tests"][0]["value"] is None


def test_unknown_sections_are_refused(crystal):
    with pytest.raises(ValueError, match=rf"unknown: everything; there are {', '.join(SECTIONS)}"):
        check(Sound(), PARAMS, crystal, sections=["everything"])


@pytest.mark.parametrize(
    ("species", "cutoff", "nearest"),
    [((14,), 4.0, 2.352), ((18,), 8.5, 3.72), ((82, 52), 8.0, 3.27), ((6, 1, 8, 7), 5.0, 1.58), ((18,), 2.5, 1.5)],
)
def test_example_structures_are_sensible(species, cutoff, nearest):
    system = example_system(Sound(species, cutoff))
    assert set(system.species) == set(species)
    d = system.to_ase().get_all_distances(mic=True)
    # Every atom is moved by about 0.05 Å along each axis.
    assert d[d > 0].min() == pytest.approx(nearest, abs=0.4)
