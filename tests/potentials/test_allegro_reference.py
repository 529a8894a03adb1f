"""Allegro models against nequip-allegro: every structure of the reference set, from both files.

Unusual options are compared in `test_nequip_reference`.
"""

import pytest
from gnn_reference import assert_same, compare

from jaxmlp.formats import allegro

NAMES = ("allegro_l2", "allegro_l2_deep")
pytestmark = [pytest.mark.shared, pytest.mark.optimized]


@pytest.mark.parametrize("name", NAMES)
def test_agrees_with_nequip_allegro(shared, name):
    folder = shared / "reference" / "gnn" / name
    potential, params = allegro.load(folder)
    print(name, {k: f"{v:.1e}" for k, v in compare(potential, params, folder / "cases.npz").items()})
    assert_same(allegro.load(folder / "model.pt"), (potential, params))
    assert_same(allegro.load(folder / "state_dict.pt"), (potential, params))  # with config.json


def test_the_signs_of_couplings_matter(shared):
    """The file of three layers tells them apart: with those of e3nn 0.4.4 the energies are others."""
    from dataclasses import replace

    folder = shared / "reference" / "gnn" / "allegro_l2_deep"
    potential, params = allegro.load(folder)
    assert potential.convention == "0.6.0"
    with pytest.raises(AssertionError):
        compare(replace(potential, convention="0.4.4"), params, folder / "cases.npz")
