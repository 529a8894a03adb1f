"""How the spread of a committee compares with its errors: z-scores, coverage, miscalibration, the scale that corrects.

K. Tran et al., Mach. Learn.: Sci. Technol. 1, 025006 (2020): miscalibration; G. Imbalzano et al., J. Chem. Phys. 154,
074102 (2021): the scale of a spread of few members.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike
from scipy.special import erf
from scipy.stats import spearmanr

from jaxmlp.combinators import Committee, Sum
from jaxmlp.fitting.accuracy import Predictions, predict_members
from jaxmlp.fitting.batches.batch import PER_ATOM
from jaxmlp.fitting.data.structure import Structure
from jaxmlp.potential import Params, Potential

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Components that symmetry makes zero have a spread of rounding errors; as a share of the RMS spread.
NOTHING = 1e-4
NORMAL = (float(erf(np.sqrt(0.5))), float(erf(np.sqrt(2.0))))  # within 1 and 2 standard deviations


class Calibration(NamedTuple):
    """Errors compared with the standard deviations that were predicted for them.

    Args:
        count: numbers compared.
        left_out: numbers whose spread is nothing but rounding (less than `NOTHING` of the RMS spread): symmetry.
        rmse, spread: root mean squares of errors and of standard deviations, in their unit.
        z: root mean square of error / standard deviation; 1 where calibrated, larger where the spread is too small.
        within_1, within_2: fractions of the errors within one and two standard deviations; 0.683 and 0.954 of a normal
            distribution.
        area: between the observed and the expected fraction within the central interval of every probability, of
            normal errors with these standard deviations (Tran et al.): 0 to 0.5.
        spearman: rank correlation of |error| and standard deviation; nan where one of them is constant.
        scale: alpha, by which standard deviations are multiplied to be calibrated.
    """

    count: int
    left_out: int
    rmse: float
    spread: float
    z: float
    within_1: float
    within_2: float
    area: float
    spearman: float
    scale: float


def calibration(errors: ArrayLike, spread: ArrayLike, *, members: int | None = None) -> Calibration:
    """Compare errors with standard deviations predicted for them.

    The scale is the most likely one of normal errors, alpha^2 = <(error / spread)^2>. Of a committee of M members the
    spread is itself a draw, and the mean of the members another; Imbalzano et al. correct for both,

        alpha^2 = (M - 3) / (M - 1) <(error / spread)^2> - 1 / M,

    which needs more than three members: of fewer alpha is the one without correction.

    Args:
        errors: prediction less label, of the mean of the members; any shape.
        spread: standard deviations of the same shape and unit; of M members with M - 1 in the denominator.
        members: M; None where standard deviations are not those of few draws.

    Raises:
        ValueError: shapes that differ, negative standard deviations, none that is not zero.
    """
    e, s = np.ravel(np.asarray(errors, float)), np.ravel(np.asarray(spread, float))
    if np.shape(errors) != np.shape(spread):
        raise ValueError(f"errors and spread have one shape; got {np.shape(errors)} and {np.shape(spread)}.")
    if not np.all(s >= 0):
        raise ValueError("spread holds standard deviations, which are not negative.")
    whole = float(np.sqrt(np.mean(s**2))) if len(s) else 0.0
    if whole == 0:
        raise ValueError("spread is zero everywhere: its members are all the same, or there are none.")
    kept = s > NOTHING * whole
    z = np.abs(e[kept] / s[kept])
    square = float(np.mean(z**2))
    scaled = square
    if members is not None and members > 3:
        scaled = max(0.0, (members - 3) / (members - 1) * square - 1 / members)
    constant = np.ptp(s[kept]) == 0 or np.ptp(z * s[kept]) == 0
    return Calibration(
        count=int(kept.sum()), left_out=int((~kept).sum()), rmse=float(np.sqrt(np.mean(e[kept] ** 2))),
        spread=float(np.sqrt(np.mean(s[kept] ** 2))), z=square**0.5, within_1=float(np.mean(z <= 1)),
        within_2=float(np.mean(z <= 2)), area=_area(z),
        spearman=np.nan if constant else float(spearmanr(np.abs(e[kept]), s[kept]).statistic), scale=scaled**0.5,
    )  # fmt: skip


def reliability(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return expected and observed fractions of |errors| within central intervals, at every error: (n,), (n,)."""
    return erf(np.sort(np.abs(z)) / np.sqrt(2)), np.arange(1, len(z) + 1) / len(z)


def _area(z: np.ndarray) -> float:
    """The integral of |observed - expected| over the expected fraction; observed is constant from error to error."""
    expected, observed = reliability(z)
    walls = np.concatenate([[0.0], expected, [1.0]])
    level = np.concatenate([[0.0], observed])
    half = lambda p: 0.5 * (p - level) * np.abs(p - level)
    return float(np.sum(half(walls[1:]) - half(walls[:-1])))


def members_of(potential: Potential, params: Params) -> tuple[Potential, list[Params]]:
    """Return the potential of one member and the parameters of all; of a sum, with the others' parameters beside.

    Raises:
        ValueError: the potential is no committee, nor a sum of which one member is.
    """
    if isinstance(potential, Committee):
        return potential.members[0], [jax.tree.map(lambda x, k=k: x[k], params) for k in range(potential.size)]
    if isinstance(potential, Sum):
        for k, (part, own) in enumerate(zip(potential.members, params)):
            if isinstance(part, Committee):
                one, all_own = members_of(part, own)
                whole = Sum((*potential.members[:k], one, *potential.members[k + 1 :]))
                return whole, [(*params[:k], p, *params[k + 1 :]) for p in all_own]
    raise ValueError(f"a {type(potential).__name__} has no members whose predictions differ: a Committee has.")


def mean_and_spread(members: Sequence[Predictions]) -> tuple[Predictions, Predictions]:
    """Return the mean of the members' predictions and its standard deviations, M - 1 in the denominator."""

    def over(function):
        def of(values):
            if values[0] is None:
                return None
            return function(np.stack(values)) if isinstance(values[0], np.ndarray) else [
                function(np.stack(x)) for x in zip(*values, strict=True)
            ]  # fmt: skip

        return Predictions(*(of(values) for values in zip(*members, strict=True)))

    return over(lambda x: x.mean(axis=0)), over(lambda x: x.std(axis=0, ddof=1))


def deviations(structures: Sequence[Structure], predictions: Predictions, spread: Predictions):
    """Return {kind: (errors (n,), standard deviations (n,))} of all that is labelled, in the units of `Accuracy`."""
    found = {}
    for kind in Predictions._fields:
        values, widths = getattr(predictions, kind), getattr(spread, kind)
        if values is None or widths is None:
            continue
        rows = [
            (np.ravel(y - getattr(s, kind)) / n, np.ravel(w) / n)
            for s, y, w in zip(structures, values, widths, strict=True)
            if getattr(s, kind) is not None
            for n in [1 if kind in PER_ATOM else len(s)]
        ]
        if rows:
            found[kind] = tuple(np.concatenate(x) for x in zip(*rows, strict=True))
    return found


def calibrate(
    potential: Potential, params: Params, structures: Sequence[Structure], **options: Any
) -> dict[str, Calibration]:
    """Return the calibration of a committee for labelled structures: of energies per atom, forces, and what else.

    Args:
        options: of `predict_structures`: which kinds to predict.
    """
    one, members = members_of(potential, params)
    mean, spread = mean_and_spread(predict_members(one, members, structures, **options))
    pairs = deviations(structures, mean, spread)
    return {kind: calibration(*pair, members=len(members)) for kind, pair in pairs.items()}


def calibration_figure(
    pairs: dict[str, tuple[np.ndarray, np.ndarray]], units: dict[str, tuple[str, float]]
) -> "Figure":
    """Return a figure with a row for each kind: |errors| against standard deviations, and observed against expected
    fractions within central intervals, as they are (solid) and with the RMS z-score taken out (dashed).

    Args:
        pairs: of `deviations`.
        units: {kind: (label of the axis, factor)}.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 3.8 * len(pairs)), layout="constrained")
    for (left, right), (kind, (e, s)) in zip(figure.subplots(len(pairs), 2, squeeze=False), pairs.items()):
        label, factor = units[kind]
        found = calibration(e, s)
        kept = s > NOTHING * np.sqrt(np.mean(s**2))
        x, y = factor * s[kept], factor * np.abs(e[kept])
        left.loglog(x, y, ".", ms=3, alpha=0.4, color="C0", rasterized=len(x) > 1000)
        bins = np.array_split(np.argsort(x), min(10, max(1, len(x) // 5)))
        rms = [[np.sqrt(np.mean(v[b] ** 2)) for b in bins] for v in (x, y)]
        left.loglog(*rms, "o-", color="C3", label="RMS of bins")
        ends = np.array([x.min(), x.max()])
        for k, style in ((1, "-"), (2, "--")):
            left.loglog(ends, k * ends, style, color="0.3", lw=0.8, label=f"{k} standard deviation{'s' * (k > 1)}")
        left.set(xlabel=f"spread of the {label}", ylabel=f"|error| of the {label}")
        left.legend(fontsize="small")
        for width, style, text in ((1.0, "-", f"area {found.area:.3f}"), (found.z, "--", f"spread x {found.z:.2f}")):
            right.plot(*reliability(e[kept] / s[kept] / width), style, color="C0", label=text)
        right.plot([0, 1], [0, 1], color="0.3", lw=0.8)
        right.set(xlabel="expected fraction", ylabel="observed fraction", aspect="equal", xlim=(0, 1), ylim=(0, 1))
        right.legend(fontsize="small", loc="lower right")
    return figure
