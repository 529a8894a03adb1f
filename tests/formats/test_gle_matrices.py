"""Matrices of generalised Langevin equations: units, the order of normal modes, complaints."""

import numpy as np
import pytest

from jaxmlp.formats.errors import FormatError
from jaxmlp.formats.gle_matrices import load
from jaxmlp.md.modes import mode_frequencies, mode_matrix


def element(name, array, **attributes):
    """Write an array as i-PI does."""
    shape = ",".join(map(str, array.shape))
    said = "".join(f" {key}='{value}'" for key, value in attributes.items())
    return f"<{name} shape='({shape})'{said}>\n [ {', '.join(map(repr, array.ravel().tolist()))} ]\n</{name}>\n"


def test_plain_numbers_are_the_drift_in_inverse_femtoseconds(tmp_path):
    file = tmp_path / "smart.A"
    file.write_text("# made by hand\n 1e-2 2d-2 # strong\n-2.0e-2 0\n")
    gle = load(file)
    np.testing.assert_array_equal(gle.A, [[0.01, 0.02], [-0.02, 0]])
    assert gle.C is None


def test_units_of_ipi(tmp_path):
    A, C = np.array([[0.1, 0.2], [-0.2, 0.3]]), np.array([[300.0, 1.0], [1.0, 400.0]])
    file = tmp_path / "input.xml"
    file.write_text(f"<thermostat mode='gle'>{element('A', A)}{element('C', C, units='kelvin')}</thermostat>")
    gle = load(file)
    np.testing.assert_allclose(gle.A, A / 0.02418884326586, rtol=1e-7)  # fs, CODATA 2018; ASE's Hartree is of 2014
    np.testing.assert_array_equal(gle.C, C)
    file.write_text(element("A", A, units="atomic_unit") + element("C", C))
    np.testing.assert_allclose(load(file).C, C * 315775.02480, rtol=1e-6)  # K


def test_modes_are_in_the_order_of_the_transform(tmp_path):
    """i-PI's mode k = 0 ... P - 1 has the frequency 2 omega_P sin(pi k / P)."""
    P = 6
    theirs = 2 * np.sin(np.pi * np.arange(P) / P)
    file = tmp_path / "input.xml"
    file.write_text(element("A", theirs[:, None, None] * 0.024) + element("C", theirs[:, None, None], units="kelvin"))
    gle = load(file)
    np.testing.assert_allclose(gle.C[:, 0, 0], mode_frequencies(P, 1.0), atol=1e-15)
    np.testing.assert_allclose(gle.A[:, 0, 0] / gle.A[1, 0, 0], gle.C[:, 0, 0] / gle.C[1, 0, 0], rtol=1e-12)
    assert len(mode_matrix(P)) == P


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "or n x n numbers"),
        ("1 2 3", "or n x n numbers"),
        ("1 2 3 x", "or n x n numbers"),
        ("<A shape='(2,2)'> [1, 2, 3] </A>", "found 3"),
        ("<A shape='(2,2)'> [1, 2, 3, nan] </A>", "found 4"),
        ("<A> [1] </A>", "found 1"),
        ("\n<A shape='(1,1)' units='ps'> [1] </A>", "line 2: expected units of A among atomic_unit, found 'ps'"),
        ("<A shape='(1,1)'> [1] </A><A shape='(1,1)'> [1] </A>", "a second <A>"),
        ("<A shape='(1,1)'> [1] </A><C shape='(2,2)'> [1,0,0,1] </C>", "of one shape"),
    ],
)
def test_damaged_files_are_refused(tmp_path, text, message):
    file = tmp_path / "input.xml"
    file.write_text(text)
    with pytest.raises(FormatError, match=message.replace("(", r"\(")):
        load(file)
