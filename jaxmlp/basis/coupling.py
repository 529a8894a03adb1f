"""Coupling of angular momenta: Wigner 3j symbols, Clebsch-Gordan coefficients, and their real forms (numpy, cached)."""

from fractions import Fraction
from functools import cache
from math import factorial

import numpy as np


@cache
def wigner_3j(j1: float, j2: float, j3: float) -> np.ndarray:
    """Return the 3j symbols (j1 j2 j3; m1 m2 m3), shape (2 j1 + 1, 2 j2 + 1, 2 j3 + 1), m = -j ... j.

    Racah's formula (Edmonds, Angular Momentum in Quantum Mechanics, 1957, Eq. (3.6.11)) in exact integers, rounded once
    at the end. Integer and half-integer j; all zeros where the triangle rule fails. The array is read-only.
    """
    a, b, c = (_doubled(j) for j in (j1, j2, j3))
    out = np.zeros((a + 1, b + 1, c + 1))
    if abs(a - b) <= c <= a + b and (a + b + c) % 2 == 0:
        triangle = Fraction(
            factorial((a + b - c) // 2) * factorial((a - b + c) // 2) * factorial((-a + b + c) // 2),
            factorial((a + b + c) // 2 + 1),
        )
        for i in range(a + 1):
            for k in range(b + 1):
                m1, m2 = 2 * i - a, 2 * k - b
                m3 = -m1 - m2
                if abs(m3) <= c:
                    out[i, k, (m3 + c) // 2] = _racah(a, b, c, m1, m2, m3, triangle)
    out.flags.writeable = False
    return out


def _doubled(j: float) -> int:
    twice = round(2 * j)
    if twice != 2 * j or twice < 0:
        raise ValueError(f"an angular momentum is 0, 1/2, 1, 3/2 ...; got {j}.")
    return twice


def _racah(a: int, b: int, c: int, m1: int, m2: int, m3: int, triangle: Fraction) -> float:
    """One 3j symbol; all arguments are doubled."""
    f = factorial
    square = triangle * (f((a + m1) // 2) * f((a - m1) // 2) * f((b + m2) // 2) * f((b - m2) // 2))
    square *= f((c + m3) // 2) * f((c - m3) // 2)
    x, y = (c - b + m1) // 2, (c - a - m2) // 2
    low, high = max(0, -x, -y), min((a + b - c) // 2, (a - m1) // 2, (b + m2) // 2)
    total = Fraction(0)
    for k in range(low, high + 1):
        bottom = f(k) * f((a + b - c) // 2 - k) * f((a - m1) // 2 - k) * f((b + m2) // 2 - k) * f(x + k) * f(y + k)
        total += Fraction((-1) ** k, bottom)
    sign = (-1) ** ((a - b - m3) // 2)
    square *= total * total
    return (sign if total >= 0 else -sign) * float(square) ** 0.5


@cache
def clebsch_gordan(j1: float, j2: float, j3: float) -> np.ndarray:
    """Return <j1 m1 j2 m2 | j3 m3>, shape (2 j1 + 1, 2 j2 + 1, 2 j3 + 1), Condon-Shortley convention.

    <j1 m1 j2 m2 | j3 m3> = (-1)^(j1 - j2 + m3) sqrt(2 j3 + 1) (j1 j2 j3; m1 m2 -m3) (Edmonds, Eq. (3.7.3)).
    """
    a, b, c = (_doubled(j) for j in (j1, j2, j3))
    out = wigner_3j(j1, j2, j3)[:, :, ::-1] * np.sqrt(c + 1.0)
    if (a - b + c) % 2 == 0:
        out = out * (-1.0) ** ((a - b + 2 * np.arange(c + 1) - c) // 2)
    out.flags.writeable = False
    return out


@cache
def real_to_complex(l: int) -> np.ndarray:
    """Return U (2l + 1, 2l + 1), Y_l^m = sum_mu U[l + m, l + mu] Y_l,mu.

    Y_l^m: complex harmonics with Condon-Shortley phase; Y_l,mu: the real ones of `harmonics.real_harmonics`. U is
    unitary, so real moments A_l,mu give complex moments U A.
    """
    u = np.zeros((2 * l + 1, 2 * l + 1), dtype=complex)
    u[l, l] = 1.0
    for m in range(1, l + 1):
        u[l + m, l + m], u[l + m, l - m] = (-1) ** m / np.sqrt(2), 1j * (-1) ** m / np.sqrt(2)
        u[l - m, l + m], u[l - m, l - m] = 1 / np.sqrt(2), -1j / np.sqrt(2)
    u.flags.writeable = False
    return u


@cache
def real_wigner_3j(l1: int, l2: int, l3: int) -> np.ndarray:
    """Return the invariant real tensor C (2 l1 + 1, 2 l2 + 1, 2 l3 + 1) that couples three real moments to a scalar.

    sum_{m1 m2 m3} (l1 l2 l3; m1 m2 m3) A_l1^m1 B_l2^m2 D_l3^m3 = sum_{abc} C[a, b, c] A_l1,a B_l2,b D_l3,c.
    For odd l1 + l2 + l3 the left side is imaginary: C is then its imaginary part.
    """
    u1, u2, u3 = real_to_complex(l1), real_to_complex(l2), real_to_complex(l3)
    coupling = np.einsum("xyz,xa,yb,zc->abc", wigner_3j(l1, l2, l3), u1, u2, u3)
    out = np.ascontiguousarray(coupling.imag if (l1 + l2 + l3) % 2 else coupling.real)
    out[np.abs(out) < 1e-15] = 0.0  # rounding of exact zeros
    out.flags.writeable = False
    return out
