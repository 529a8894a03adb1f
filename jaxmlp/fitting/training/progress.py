"""How a fit shows what it does: a bar or lines while it runs, and logs as CSV and JSON lines."""

import csv
import io
import json
import math
import os
import time
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

Row = Mapping[str, float]
KINDS = (
    ("energy", "E", "meV/atom"), ("forces", "F", "meV/Å"), ("virial", "W", "meV/atom"), ("dipole", "mu", "me Å/atom"),
    ("charges", "q", "me"),
)  # fmt: skip


class Progress:
    """A context that shows how far a fit is; `update` takes the rows of its history (`on_epoch`, `on_generation`).

    In a terminal a bar that is drawn anew; elsewhere a line for the first and the last row and, between them, one every
    `interval` seconds.

    Args:
        epochs: of the fit (generations of an evolution).
        interval: s between lines where there is no terminal.
        console: a rich console; None takes one of standard output.
    """

    def __init__(self, epochs: int, *, interval: float = 30.0, console: Any = None):
        self.epochs, self.interval, self.console = epochs, interval, console
        self._bar: Any = None
        self._epoch, self._last, self._speed = 0, -math.inf, 0.0

    def __enter__(self) -> "Progress":
        from rich import progress
        from rich.console import Console

        if self.console is None:
            self.console = Console(highlight=False)
        if self.console.is_terminal:
            columns = (progress.TextColumn("epoch {task.completed:.0f} of {task.total:.0f}"), progress.BarColumn())
            rest = (progress.TextColumn("{task.fields[state]}"), progress.TextColumn("{task.fields[left]}"))
            self._bar = progress.Progress(*columns, *rest, console=self.console)
            self._bar.start()
            self._task = self._bar.add_task("fit", total=self.epochs, state="compiling", left="")
        return self

    def update(self, row: Row) -> None:
        """Show a row of the history; its "epoch" and "loss" are needed, what else it has is shown."""
        epoch = int(row["epoch"])
        left = self._left(epoch, float(row.get("seconds", 0.0)))
        if self._bar is not None:
            self._bar.update(self._task, completed=epoch, state=summary(row), left=left)
            return
        now = time.monotonic()
        if now - self._last >= self.interval or epoch >= self.epochs:
            self._last = now
            text = f"epoch {epoch} of {self.epochs}: {summary(row)}"
            self.console.print("; ".join(filter(None, (text, left))), soft_wrap=True, markup=False)

    def _left(self, epoch: int, seconds: float) -> str:
        """Seconds per epoch and the time left, given the row of an epoch and the time since the row before."""
        if not self._epoch and epoch > 1:  # a fit that goes on, or a row of many epochs: which is not known yet
            self._epoch = epoch
            return ""
        speed = seconds / max(1, epoch - self._epoch)
        # The first epoch of a run compiles, and is forgotten at once.
        self._speed = speed if self._speed == 0 else min(speed, 0.8 * self._speed + 0.2 * speed)
        self._epoch = epoch
        return f"{self._speed:.3g} s/epoch, {_duration(self._speed * (self.epochs - epoch))} left"

    __call__ = update

    def __exit__(self, *error) -> None:
        if self._bar is not None:
            self._bar.stop()


def summary(row: Row) -> str:
    """Return a row in words: the loss, and the errors (RMSE, or MAE where that is what was made small) by kind, of
    training / validation."""
    loss = f"loss {row['loss']:.4g}"
    if "validation_loss" in row:
        loss += f" / {row['validation_loss']:.4g}"
    parts = [loss]
    for kind, letter, unit in KINDS:
        found = [row.get(f"train_{kind}"), row.get(f"rmse_{kind}")]
        if any(x is not None for x in found):
            parts.append(f"{letter} {' / '.join('-' if x is None else f'{1000 * x:.4g}' for x in found)} {unit}")
    return "  ".join(parts)


def _duration(seconds: float) -> str:
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}"


class Log:
    """log.csv and log.jsonl in a folder: a row for every row of a fit's history, on disk at once.

    A fit that goes on from a checkpoint repeats the epochs after it: a row with an epoch that is there already takes
    the place of that one and of all later ones. Columns stand in the order in which they first came; a row without a
    value has an empty field. The JSON lines are what is read back; a line that a killed process left unfinished is
    dropped.

    Args:
        folder: made where it is missing.

    Raises:
        ValueError: log.jsonl is there and holds something else.
    """

    def __init__(self, folder: str | PathLike):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.csv, self.jsonl = self.folder / "log.csv", self.folder / "log.jsonl"
        self.rows = _read(self.jsonl)
        self._rewrite()

    @property
    def columns(self) -> list[str]:
        """Names of the columns of log.csv."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def write(self, row: Row) -> None:
        """Add a row; "epoch" is needed."""
        row = {name: _plain(x) for name, x in row.items()}
        known = self.columns
        again = bool(self.rows) and row["epoch"] <= self.rows[-1]["epoch"]
        if again:
            self.rows = [r for r in self.rows if r["epoch"] < row["epoch"]]
        self.rows.append(row)
        if again or any(name not in known for name in row):
            self._rewrite()
            return
        for path, text in ((self.jsonl, _json(row)), (self.csv, _csv([row], known))):
            with open(path, "a", encoding="utf-8", newline="") as file:
                file.write(text)

    __call__ = write

    def _rewrite(self) -> None:
        """Write both files anew, each at once: a killed process leaves the old one."""
        columns = self.columns
        header = ",".join(columns) + "\n" if columns else ""
        texts = ((self.jsonl, "".join(map(_json, self.rows))), (self.csv, header + _csv(self.rows, columns)))
        for path, text in texts:
            new = path.with_suffix(path.suffix + ".new")
            with open(new, "w", encoding="utf-8", newline="") as file:
                file.write(text)
            os.replace(new, path)


def _plain(x: Any) -> int | float | None:
    """A number that JSON can hold; None for what is not finite."""
    x = x.item() if hasattr(x, "item") else x
    return x if isinstance(x, int) or math.isfinite(x) else None


def _json(row: Row) -> str:
    return json.dumps(row, allow_nan=False) + "\n"


def _csv(rows: list[dict], columns: list[str]) -> str:
    out = io.StringIO()
    csv.DictWriter(out, columns, restval="", lineterminator="\n").writerows(rows)
    return out.getvalue()


def _read(path: Path) -> list[dict]:
    if not path.exists():
        return []
    rows: list[dict] = []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    for k, line in enumerate(lines):
        try:
            row = json.loads(line)
            if not isinstance(row, dict) or "epoch" not in row:
                raise ValueError("no epoch")
        except ValueError as error:
            if k == len(lines) - 1 and not line.endswith("\n"):
                break
            raise ValueError(f"{path}, line {k + 1}: expected a row of a fit's log ({error}).") from None
        rows.append(row)
    return rows
