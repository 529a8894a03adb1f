"""Optimizers of optax by their names, with learning rates that follow a schedule."""

from collections.abc import Callable, Mapping
from typing import Any

import optax

from jaxmlp.fitting.families import similar

OPTIMIZERS = (
    "adam", "adamw", "amsgrad", "nadam", "radam", "adabelief", "adamax", "lamb", "lion", "rmsprop", "sgd", "muon",
)  # fmt: skip
DECAYING = ("adamw", "lamb", "lion", "muon")
SCHEDULES = ("constant", "exponential", "cosine", "warmup-cosine", "linear", "plateau")


def schedule(settings: float | Mapping[str, Any], steps: int) -> Callable | float:
    """Return a learning rate, or a function of the step.

    Args:
        settings: a number, or {"schedule": name, "start": rate, "end": rate at the last step, "warmup": steps}.
        steps: of the whole training.

    Raises:
        ValueError: an unknown schedule, or rates that make no sense.
    """
    if not isinstance(settings, Mapping):
        rate = float(settings)
        if not rate > 0:
            raise ValueError(f"learning_rate must be positive; got {settings}.")
        return rate
    known = {"schedule", "start", "end", "warmup"}
    for name in settings:
        if name not in known:
            raise ValueError(f"learning_rate has no option {name!r}{similar(name, known)}; it has {sorted(known)}.")
    name = settings.get("schedule", "exponential")
    start = float(settings.get("start", 1e-3))
    end, warmup = float(settings.get("end", 1e-3 * start)), int(settings.get("warmup", 0))
    if not 0 < end <= start:
        raise ValueError(f"learning_rate needs 0 < end <= start; got start={start}, end={end}.")
    if name in ("constant", "plateau"):
        return start
    if name == "exponential":
        return optax.exponential_decay(start, max(1, steps), end / start)
    if name == "cosine":
        return optax.cosine_decay_schedule(start, max(1, steps), end / start)
    if name == "warmup-cosine":
        warm = warmup or max(1, steps // 20)
        return optax.warmup_cosine_decay_schedule(start / 100, start, warm, max(warm + 1, steps), end)
    if name == "linear":
        return optax.linear_schedule(start, end, max(1, steps))
    raise ValueError(f"no schedule is named {name!r}{similar(name, SCHEDULES)}; there are {', '.join(SCHEDULES)}.")


def optimizer(
    name: str = "adam",
    learning_rate: float | Mapping[str, Any] = 1e-3,
    *,
    steps: int,
    clip: float | None = None,
    weight_decay: float = 0.0,
    **options: Any,
) -> optax.GradientTransformation:
    """Return an optax chain: clipping of the gradient's norm, the optimizer, and a plateau's reduction if asked for.

    Args:
        name: of `OPTIMIZERS`; "muon" makes orthogonal steps for matrices and those of Adam for the rest, see
            optax.contrib.muon.
        learning_rate: see `schedule`.
        steps: of the whole training.
        clip: largest norm of a gradient.
        weight_decay: for those of `DECAYING`.
        options: of the function of that name in optax.

    Raises:
        ValueError: unknown names.
    """
    if name not in OPTIMIZERS:
        raise ValueError(
            f"no optimizer is named {name!r}{similar(name, OPTIMIZERS)}; there are {', '.join(OPTIMIZERS)}."
        )
    if weight_decay:
        if name not in DECAYING:
            raise ValueError(f"{name} has no weight decay; take one of {', '.join(DECAYING)}, or l2 of the loss.")
        options["weight_decay"] = weight_decay
    make = optax.contrib.muon if name == "muon" else getattr(optax, name)
    try:
        chain = [make(schedule(learning_rate, steps), **options)]
    except TypeError as error:
        raise ValueError(f"optimizer {name}: {error}.") from None
    if clip is not None:
        chain.insert(0, optax.clip_by_global_norm(float(clip)))
    if isinstance(learning_rate, Mapping) and learning_rate.get("schedule") == "plateau":
        chain.append(optax.contrib.reduce_on_plateau(factor=0.8, patience=10, accumulation_size=max(1, steps // 200)))
    return optax.chain(*chain)
