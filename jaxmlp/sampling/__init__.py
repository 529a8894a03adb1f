"""Enhanced sampling: collective variables, bias potentials of them, and what the biased samples say.

Variables are functions s(R, box); a bias is a potential V(s) that adds to any other. Springs and walls have parameters;
what metadynamics and OPES have learnt is their memory, which stands in the place of parameters. Monte Carlo samples
without forces, or between the steps of dynamics.
"""

from jaxmlp.sampling.adaptive import Adaptive
from jaxmlp.sampling.bias import Bias, site_variable_fn, variable_fn
from jaxmlp.sampling.hybrid import Hybrid, hybrid_md_mc
from jaxmlp.sampling.internal import (
    RMSD,
    Angle,
    Center,
    Distance,
    GyrationRadius,
    Position,
    Projection,
    Torsion,
    center_of_mass,
)
from jaxmlp.sampling.metadynamics import Metadynamics
from jaxmlp.sampling.monte_carlo import MonteCarlo, monte_carlo
from jaxmlp.sampling.moves import DisplacementMoves, SemiGrandMoves, SwapMoves, VolumeMoves
from jaxmlp.sampling.opes import OPES
from jaxmlp.sampling.profiles import Profile, profile, samples, weights
from jaxmlp.sampling.restraint import Limit, Linear, Restraint, linear_bias, lower_limit, restraint, upper_limit
from jaxmlp.sampling.steinhardt import Crystallinity, GlobalSteinhardt, Steinhardt
from jaxmlp.sampling.structure import Coordination, Density, DensityWave, PairEntropy, Volume
from jaxmlp.sampling.tuning import tuned
from jaxmlp.sampling.umbrella import Umbrella, umbrella, umbrella_profile
from jaxmlp.sampling.variables import Function, Stack, Transformed, Variable, variable
from jaxmlp.sampling.windows import Windows, umbrella_sampling

__all__ = [
    "OPES",
    "RMSD",
    "Adaptive",
    "Angle",
    "Bias",
    "Center",
    "Coordination",
    "Crystallinity",
    "Density",
    "DensityWave",
    "DisplacementMoves",
    "Distance",
    "Function",
    "GlobalSteinhardt",
    "GyrationRadius",
    "Hybrid",
    "Limit",
    "Linear",
    "Metadynamics",
    "MonteCarlo",
    "PairEntropy",
    "Position",
    "Profile",
    "Projection",
    "Restraint",
    "SemiGrandMoves",
    "Stack",
    "Steinhardt",
    "SwapMoves",
    "Torsion",
    "Transformed",
    "Umbrella",
    "Variable",
    "Volume",
    "VolumeMoves",
    "Windows",
    "center_of_mass",
    "hybrid_md_mc",
    "linear_bias",
    "lower_limit",
    "monte_carlo",
    "profile",
    "restraint",
    "samples",
    "site_variable_fn",
    "tuned",
    "umbrella",
    "umbrella_profile",
    "umbrella_sampling",
    "upper_limit",
    "variable",
    "variable_fn",
    "weights",
]
