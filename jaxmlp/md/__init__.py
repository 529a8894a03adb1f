"""Molecular dynamics: propagators, ensembles, the driver, trajectories and restart."""

from jaxmlp.md.checkpoint import restart
from jaxmlp.md.driver import Result, run
from jaxmlp.md.ensembles import Ensemble
from jaxmlp.md.h5md import H5MD
from jaxmlp.md.propagators import chain_energy, drift, kick, nose_hoover_chain, ornstein_uhlenbeck
from jaxmlp.md.simulation import Simulation, SimulationError, nve, nvt_langevin, nvt_nose_hoover, simulate, simulation
from jaxmlp.md.state import Atoms, Bath, Chain, Controls, Forces, State, kinetic_energy
from jaxmlp.md.trajectory import Frame, Trajectory
from jaxmlp.md.velocities import thermal_momenta
from jaxmlp.md.xyz import XYZ

__all__ = [
    "H5MD",
    "XYZ",
    "Atoms",
    "Bath",
    "Chain",
    "Controls",
    "Ensemble",
    "Forces",
    "Frame",
    "Result",
    "Simulation",
    "SimulationError",
    "State",
    "Trajectory",
    "chain_energy",
    "drift",
    "kick",
    "kinetic_energy",
    "nose_hoover_chain",
    "nve",
    "nvt_langevin",
    "nvt_nose_hoover",
    "ornstein_uhlenbeck",
    "restart",
    "run",
    "simulate",
    "simulation",
    "thermal_momenta",
]
