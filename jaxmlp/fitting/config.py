"""What `jaxmlp.fit` and `jaxmlp fit config.yaml` are told, checked word by word before anything runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from os import PathLike
from pathlib import Path
from typing import Any

from jaxmlp.fitting.data.net_forces import treat_net_forces
from jaxmlp.fitting.families import FAMILIES, similar
from jaxmlp.fitting.linear.fit import SOLVERS
from jaxmlp.fitting.linear.smoothness import power_of
from jaxmlp.fitting.training.loss import Loss, prefactor, staged
from jaxmlp.fitting.training.optimizers import optimizer as build_optimizer
from jaxmlp.fitting.training.optimizers import schedule
from jaxmlp.rows import PRECISIONS, Execution
from jaxmlp.shipped import named

LINEAR = ("solver", "weights", "strength", "prior", "error", "vary", "passes", "damping", "fraction")
SNES = (
    "population",
    "sigma0",
    "batch_size",
    "lambda_e",
    "lambda_f",
    "lambda_v",
    "lambda_1",
    "lambda_2",
    "bias",
    "every",
)
GPR = (
    "sigma_energy", "sigma_forces", "sigma_virial", "groups", "method", "clusters", "per_group", "delta", "theta",
    "limit", "jitter",
)  # fmt: skip
METHODS = ("gradient", "linear", "gpr", "lbfgs", "snes")


@dataclass(frozen=True)
class Data:
    """Where structures come from.

    Args:
        train, validation, test: files or folders, see `fitting.read_structures`; a list for several. `validation` may
            be a fraction or a number of the training structures instead.
        read: options of `read_structures`: format, names of labels, units, type_map.
        energies: "fit" (least squares over the training set; a linear fit refines them), "none", or a mapping from
            symbols to eV of an isolated atom.
        check: look for wrong labels before training; errors stop the fit.
        net_force: "keep", "remove", or a bound in eV/Å beyond which forces are left out, see `treat_net_forces`.
        stream: keep the training structures on disk, a part of them in memory at a time: true for a folder in `output`,
            or the name of a folder, which other fits may use too. Gradient training and linear fits only. Whatever
            looks at all structures at once then looks at `sets.SAMPLE` of them: means and ranges that a potential
            starts from, and the report on the training set; copies are found within a shard.
        limit: at most as many training structures, chosen at random.
        teacher: file of a potential whose energies, forces and virials take the place of all labels.
        hessian_rows: of the teacher too, products of its Hessian with as many directions (for the loss's `hessian`).
    """

    train: Any = None
    validation: Any = None
    test: Any = None
    read: Mapping[str, Any] = field(default_factory=dict)
    energies: Any = "fit"
    check: bool = True
    net_force: str | float = "keep"
    stream: bool | str = False
    limit: int | None = None
    teacher: str | None = None
    hessian_rows: int = 0


@dataclass(frozen=True)
class Config:
    """A fit.

    Args:
        data: see `Data`.
        potential: {"family": name, **options of that family}, {"file": a potential to go on with}, and in both
            "base": a file whose energies are subtracted, and to which the fit is the correction. In place of files also
            names of potentials that come with jaxmlp ("silicon/nep").
        parameters: values of parameters by name, in place of those that are drawn to start from: {"weight": [0.3]}.
        method: "gradient"; "linear", for parameters in which the energy is linear; "lbfgs", all data in every step;
            "snes", evolution by energies and forces only; "gpr", sparse Gaussian-process regression, for a GAP.
        loss: see `Loss`; a weight may be {"start": a, "end": b} (with the learning rate) or {"values": [...],
            "epochs": [...]}.
        optimizer: see `optimizers.optimizer`.
        linear: solver, weights, strength, prior and error of `fit_linear`; `prior: smooth` for a smoothness prior.
            With `vary` (names), passes and damping of `fit_projected`, which finds other parameters before, from a
            `fraction` of the structures (1.0).
        gpr: noises and choice of the sparse points of `fit_gap`.
        snes: population, sigma0, batch_size, bias and weights of `train_snes`; `epochs` are its generations.
        epochs, batch_size, ema, patience: of `train`, or steps for lbfgs.
        train, freeze, low_rank, rank: which parameters change, see `Trainable.of`.
        members, bootstrap: of a committee; of a linear fit members are draws from its posterior. How their spread
            compares with the errors is in the report, see `calibration`.
        precision: "float32", "float64", or what is mixed: parameters, optimizer, positions and sums in float64 and the
            potential in float32 ("mixed"), or all in float32 and the products of matrices of networks rounded by an
            accelerator ("tensorfloat32", "bfloat16"); see `jaxmlp.rows.Execution`. None: see `dtype`.
        devices: over which batches are sharded.
        seed: of everything that is drawn.
        output: folder for the potential, logs, figures and the report; None keeps nothing.
        resume: go on with a run that the folder holds.
        checkpoint_every: epochs.
    """

    data: Data = Data()
    potential: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    method: str = "gradient"
    loss: Mapping[str, Any] = field(default_factory=dict)
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    linear: Mapping[str, Any] = field(default_factory=dict)
    gpr: Mapping[str, Any] = field(default_factory=dict)
    snes: Mapping[str, Any] = field(default_factory=dict)
    epochs: int = 100
    batch_size: int = 8
    ema: float = 0.0
    patience: int | None = None
    train: tuple[str, ...] = ("*",)
    freeze: tuple[str, ...] = ()
    low_rank: tuple[str, ...] = ()
    rank: int = 4
    members: int = 1
    bootstrap: bool = False
    precision: str | None = None
    devices: int = 1
    seed: int = 0
    output: str | None = None
    resume: bool = True
    checkpoint_every: int = 10

    def __post_init__(self):
        if self.method not in METHODS:
            raise ValueError(f"method: {self.method!r} is none{similar(self.method, METHODS)}; take {METHODS}.")
        if self.precision not in (None, "float32", "float64", *PRECISIONS):
            raise ValueError(
                f"precision must be float32, float64{similar(str(self.precision), PRECISIONS)} or one of "
                f"{', '.join(PRECISIONS)}; got {self.precision!r}."
            )
        if self.precision in PRECISIONS and self.method not in ("gradient", "lbfgs", "snes"):
            raise ValueError(
                f"precision {self.precision} goes with method gradient, lbfgs or snes; {self.method} solves in "
                "float64 or float32."
            )
        family, file = self.potential.get("family"), self.potential.get("file")
        if (family is None) == (file is None):
            raise ValueError(f"potential needs either a family ({', '.join(FAMILIES)}) or a file.")
        if family is not None and str(family).lower() not in FAMILIES:
            raise ValueError(
                f"no family is named {family!r}{similar(str(family), FAMILIES)}; there are {', '.join(FAMILIES)}."
            )
        treat_net_forces((), self.data.net_force)
        if self.data.stream and self.method not in ("gradient", "linear"):
            raise ValueError(
                f"data: stream goes with method gradient or linear; a {self.method} fit needs all in memory."
            )
        self.build_loss(1)
        self.build_optimizer(1)
        solver = self.linear.get("solver", "bayesian")
        if solver not in SOLVERS:
            raise ValueError(f"linear: no solver is named {solver!r}{similar(solver, SOLVERS)}; there are {SOLVERS}.")
        if "prior" in self.linear:
            power_of(self.linear["prior"])
        for name, known in (("linear", LINEAR), ("gpr", GPR), ("snes", SNES)):
            for option in getattr(self, name):
                if option not in known:
                    raise ValueError(
                        f"{name} has no option {option!r}{similar(option, known)}; it has {', '.join(known)}."
                    )
        if self.members > 1 and self.method not in ("gradient", "linear"):
            raise ValueError(f"members: committees come from method gradient or linear; got {self.method}.")

    @property
    def dtype(self) -> str:
        """Of parameters and labels: double precision for linear fits and full-batch steps, single for gradients, unless
        told otherwise."""
        if self.precision in PRECISIONS:
            return "float64" if self.precision == "mixed" else "float32"
        return self.precision or ("float32" if self.method == "gradient" else "float64")

    @property
    def execution(self) -> Execution:
        """How potentials are evaluated."""
        return Execution(precision=self.precision if self.precision in PRECISIONS else None)

    def build_loss(self, steps_per_epoch: int) -> Loss:
        """The loss, with weights that are functions of the step made."""
        settings = dict(self.loss)
        known = [f.name for f in fields(Loss)]
        for name in settings:
            if name not in known:
                raise ValueError(f"loss has no option {name!r}{similar(name, known)}; it has {', '.join(known)}.")
        rate = schedule(self.optimizer.get("learning_rate", 1e-3), steps_per_epoch * self.epochs)
        for name, value in settings.items():
            if not isinstance(value, Mapping):
                continue
            if set(value) == {"start", "end"}:
                if not callable(rate):
                    raise ValueError(f"loss: {name} follows the learning rate, which is constant; give it a schedule.")
                settings[name] = prefactor(float(value["start"]), float(value["end"]), rate)
            elif set(value) == {"values", "epochs"}:
                at = tuple(steps_per_epoch * int(e) for e in value["epochs"])
                settings[name] = staged(*map(float, value["values"]), at=at)
            else:
                raise ValueError(f"loss: {name} is a number, start and end, or values and epochs; got {dict(value)}.")
        return Loss(**settings)

    def build_optimizer(self, steps_per_epoch: int):
        """The optax chain."""
        return build_optimizer(**dict(self.optimizer), steps=steps_per_epoch * self.epochs)


def read_config(config: Mapping[str, Any] | str | PathLike | Config, **changes: Any) -> Config:
    """Return a `Config` from a mapping or a YAML file; relative paths in a file start from its folder.

    Args:
        changes: fields that replace those of the file.

    Raises:
        ValueError: words that are not known, or no mapping.
        FileNotFoundError: there is no such file.
    """
    if isinstance(config, Config):
        return replace(config, **changes)
    here = None
    if not isinstance(config, Mapping):
        import yaml

        path = Path(config)
        here = path.parent
        try:
            config = yaml.safe_load(path.read_text())
        except yaml.YAMLError as error:
            raise ValueError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
        if not isinstance(config, Mapping):
            raise ValueError(f"{path} must hold a mapping: data, potential, method ...; see jaxmlp fit --help.")
    settings = dict(config) | {k: v for k, v in changes.items() if v is not None}
    data = settings.pop("data", {})
    data = data if isinstance(data, Data) else _record(Data, data, "data")
    if here is not None:
        paths = {n: _placed(getattr(data, n), here) for n in ("train", "validation", "test", "stream")}
        data = replace(data, **paths, teacher=_model(data.teacher, here))
        for name in ("file", "base"):
            if name in settings.get("potential", {}):
                settings["potential"] = dict(settings["potential"]) | {name: _model(settings["potential"][name], here)}
    for name in ("train", "freeze", "low_rank"):
        if name in settings:
            value = settings[name]
            settings[name] = (value,) if isinstance(value, str) else tuple(value)
    return _record(Config, settings | {"data": data}, "the configuration")


def _record(cls, settings, where: str):
    if not isinstance(settings, Mapping):
        raise ValueError(f"{where} must be a mapping; got {settings!r}.")
    known = [f.name for f in fields(cls)]
    for name in settings:
        if name not in known:
            raise ValueError(f"{where} has no option {name!r}{similar(str(name), known)}; it has {', '.join(known)}.")
    return cls(**settings)


def _placed(value, here: Path):
    if isinstance(value, str):
        return str(here / value)
    if isinstance(value, list | tuple):
        return [_placed(v, here) for v in value]
    return value


def _model(value, here: Path):
    """The path of a model; names of potentials that come with jaxmlp stay names where no file is called so."""
    if isinstance(value, str) and named(value) and not (here / value).exists():
        return value
    return _placed(value, here)
