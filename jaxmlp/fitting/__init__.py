"""Fitting potentials to data; `jaxmlp.fit` is the whole of it, the rest its parts."""

from jaxmlp.fitting.accuracy import (
    Accuracy,
    Error,
    Predictions,
    accuracy,
    by_element,
    by_group,
    predict_members,
    predict_structures,
)
from jaxmlp.fitting.batches.batch import Batch, Shape, collate
from jaxmlp.fitting.batches.loader import Loader, StreamingLoader
from jaxmlp.fitting.batches.predictions import predict
from jaxmlp.fitting.calibration import Calibration, calibrate, calibration
from jaxmlp.fitting.config import Config, Data, read_config
from jaxmlp.fitting.data.checks import Finding, check_structures, raise_errors
from jaxmlp.fitting.data.net_forces import treat_net_forces
from jaxmlp.fitting.data.readers import iterate_structures, read_structures
from jaxmlp.fitting.data.reference_energies import fit_reference_energies
from jaxmlp.fitting.data.splits import kfold, split
from jaxmlp.fitting.data.store import StructureStore
from jaxmlp.fitting.data.structure import Structure
from jaxmlp.fitting.families import FAMILIES, build
from jaxmlp.fitting.fit import Fit, fit
from jaxmlp.fitting.gap.gaussian_process import GAPFit, fit_gap
from jaxmlp.fitting.linear.cross_validation import Fold, cross_validate
from jaxmlp.fitting.linear.fit import LinearResult, design_rows, fit_linear, solve
from jaxmlp.fitting.linear.projected import Projected, fit_projected
from jaxmlp.fitting.snes.snes import Evolved, train_snes
from jaxmlp.fitting.survey import Survey
from jaxmlp.fitting.teacher import label, subtract
from jaxmlp.fitting.training.full_batch import train_lbfgs
from jaxmlp.fitting.training.loss import Loss, prefactor, staged
from jaxmlp.fitting.training.optimizers import optimizer, schedule
from jaxmlp.fitting.training.train import Trained, TrainingFailed, train
from jaxmlp.fitting.training.trainable import Trainable, names

__all__ = [
    "FAMILIES",
    "Accuracy",
    "Batch",
    "Calibration",
    "Config",
    "Data",
    "Error",
    "Evolved",
    "Finding",
    "Fit",
    "Fold",
    "GAPFit",
    "LinearResult",
    "Loader",
    "Loss",
    "Predictions", "Projected",
    "Shape",
    "StreamingLoader",
    "Structure",
    "StructureStore",
    "Survey",
    "Trainable",
    "Trained",
    "TrainingFailed",
    "accuracy",
    "build",
    "by_element",
    "by_group",
    "calibrate",
    "calibration",
    "check_structures",
    "collate",
    "cross_validate",
    "design_rows",
    "fit",
    "fit_gap",
    "fit_linear", "fit_projected",
    "fit_reference_energies",
    "iterate_structures",
    "kfold",
    "label",
    "names",
    "optimizer",
    "predict",
    "predict_members",
    "predict_structures",
    "prefactor",
    "raise_errors",
    "read_config",
    "read_structures",
    "schedule",
    "solve",
    "split",
    "staged",
    "subtract",
    "train",
    "train_lbfgs",
    "train_snes",
    "treat_net_forces",
]  # fmt: skip
