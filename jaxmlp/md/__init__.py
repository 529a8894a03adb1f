"""Molecular dynamics: propagators, ensembles, the driver, trajectories and restart."""

from jaxmlp.md.barostats import MTK, BerendsenPressure, CellRescaling, Piston
from jaxmlp.md.checkpoint import restart
from jaxmlp.md.constraints import Constraints, constraints
from jaxmlp.md.controls import Controls, GLEMatrices, InverseRamp, Ramp, SmoothRamp
from jaxmlp.md.driver import Result, equilibrate, run
from jaxmlp.md.ensembles import Ensemble
from jaxmlp.md.exchange import Exchange, replica_exchange
from jaxmlp.md.h5md import H5MD
from jaxmlp.md.nose_hoover import Chain, NoseHoover
from jaxmlp.md.path_integrals import cmd, pimd, restarted, rpmd, trpmd
from jaxmlp.md.presets import (
    langevin,
    nph,
    npt_berendsen,
    npt_langevin,
    npt_mtk,
    npt_rescaling,
    nve,
    nvt_berendsen,
    nvt_csvr,
    nvt_gle,
    nvt_langevin,
    nvt_nose_hoover,
)
from jaxmlp.md.propagators import drift, kick
from jaxmlp.md.replicas import Replicas, replica, replicas
from jaxmlp.md.ring_polymer import PILE, RingPolymer
from jaxmlp.md.rollout import rollout
from jaxmlp.md.simulation import Simulation, SimulationError, simulate, simulation
from jaxmlp.md.state import Atoms, Forces, State, kinetic_energy
from jaxmlp.md.thermostats import CSVR, GLE, Bath, Berendsen, Langevin, Target
from jaxmlp.md.trajectory import Frame, Trajectory
from jaxmlp.md.velocities import thermal_momenta
from jaxmlp.md.xyz import XYZ

__all__ = [
    "CSVR",
    "GLE",
    "H5MD",
    "MTK",
    "PILE",
    "XYZ",
    "Atoms",
    "Bath",
    "Berendsen",
    "BerendsenPressure",
    "CellRescaling",
    "Chain",
    "Constraints",
    "Controls",
    "Ensemble",
    "Exchange",
    "Forces",
    "Frame",
    "GLEMatrices",
    "InverseRamp",
    "Langevin",
    "NoseHoover",
    "Piston",
    "Ramp",
    "Replicas",
    "Result",
    "RingPolymer",
    "Simulation",
    "SimulationError",
    "SmoothRamp",
    "State",
    "Target",
    "Trajectory",
    "cmd",
    "constraints",
    "drift",
    "equilibrate",
    "kick",
    "kinetic_energy",
    "langevin",
    "nph",
    "npt_berendsen",
    "npt_langevin",
    "npt_mtk",
    "npt_rescaling",
    "nve",
    "nvt_berendsen",
    "nvt_csvr",
    "nvt_gle",
    "nvt_langevin",
    "nvt_nose_hoover",
    "pimd",
    "replica",
    "replica_exchange",
    "replicas",
    "restart",
    "restarted",
    "rollout",
    "rpmd",
    "run",
    "simulate",
    "simulation",
    "thermal_momenta",
    "trpmd",
]
