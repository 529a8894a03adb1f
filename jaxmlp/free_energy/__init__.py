"""Free energies: paths between Hamiltonians, absolute values of crystals and liquids, melting and other transitions."""

from jaxmlp.free_energy.absolute import Absolute, PhaseError, liquid, solid
from jaxmlp.free_energy.alchemy import Alchemy, alchemy
from jaxmlp.free_energy.coexistence import (
    Pinning,
    TwoPhase,
    bulk_value,
    coexistence_temperature,
    interface_pinning,
    two_phases,
)
from jaxmlp.free_energy.einstein import (
    einstein_free_energy,
    free_centre,
    spring_constants,
    unpinned_einstein_crystal,
)
from jaxmlp.free_energy.estimators import bar, jarzynski, linear_response, mbar, perturbation
from jaxmlp.free_energy.finite_size import crystal_finite_size, liquid_finite_size
from jaxmlp.free_energy.fluid import uhlenbeck_ford_compressibility, uhlenbeck_ford_excess
from jaxmlp.free_energy.gibbs_duhem import Coexistence, gibbs_duhem
from jaxmlp.free_energy.gradients import Samples, free_energy_fn, gradient, samples
from jaxmlp.free_energy.harmonic import (
    Thermodynamics,
    harmonic,
    harmonic_fn,
    mean_square_displacements,
    vibrational_free_energy,
)
from jaxmlp.free_energy.ideal_gas import ideal_gas
from jaxmlp.free_energy.integration import Integration, integrate
from jaxmlp.free_energy.melting import (
    Melting,
    NoCrossingError,
    melting_gradient,
    melting_pressure,
    melting_temperature,
)
from jaxmlp.free_energy.paths import path
from jaxmlp.free_energy.phase_diagram import PhaseDiagram, phase_diagram
from jaxmlp.free_energy.quantum import Quantum, quantum
from jaxmlp.free_energy.quasiharmonic import Quasiharmonic, quasiharmonic, quasiharmonic_fn
from jaxmlp.free_energy.states import StateIntegration, temperature_integration, volume_integration
from jaxmlp.free_energy.sweeps import Sweep, pressure_sweep, temperature_sweep
from jaxmlp.free_energy.switching import DissipationError, Switching, switch

__all__ = [
    "Absolute",
    "Alchemy",
    "Coexistence",
    "DissipationError",
    "Integration",
    "Melting",
    "NoCrossingError",
    "PhaseDiagram",
    "PhaseError",
    "Pinning",
    "Quantum",
    "Quasiharmonic",
    "Samples",
    "StateIntegration",
    "Sweep",
    "Switching",
    "Thermodynamics",
    "TwoPhase",
    "alchemy",
    "bar",
    "bulk_value",
    "coexistence_temperature",
    "crystal_finite_size",
    "einstein_free_energy",
    "free_centre",
    "free_energy_fn",
    "gibbs_duhem",
    "gradient",
    "harmonic",
    "harmonic_fn",
    "ideal_gas",
    "integrate",
    "interface_pinning",
    "jarzynski",
    "linear_response",
    "liquid",
    "liquid_finite_size",
    "mbar",
    "mean_square_displacements",
    "melting_gradient",
    "melting_pressure",
    "melting_temperature",
    "path",
    "perturbation",
    "phase_diagram",
    "pressure_sweep",
    "quantum",
    "quasiharmonic",
    "quasiharmonic_fn",
    "samples",
    "solid",
    "spring_constants",
    "switch",
    "temperature_integration",
    "temperature_sweep",
    "two_phases",
    "uhlenbeck_ford_compressibility",
    "uhlenbeck_ford_excess",
    "unpinned_einstein_crystal",
    "vibrational_free_energy",
    "volume_integration",
]
