"""What a fit shows while it runs, and its logs."""

import csv
import io
import json

import pytest
from rich.console import Console

from jaxmlp.fitting.training.progress import Log, Progress, summary


def row(epoch, **more):
    return {"epoch": epoch, "loss": 1 / epoch, "train_energy": 0.002, "train_forces": 0.05, "seconds": 2.0, **more}


def shown(epochs, rows, **options) -> list[str]:
    text = io.StringIO()
    with Progress(epochs, console=Console(file=text, width=40, highlight=False), **options) as progress:
        for r in rows:
            progress(r)
    return text.getvalue().splitlines()


def test_units_of_a_summary():
    text = summary(row(2, validation_loss=0.75, rmse_forces=0.06, rmse_virial=0.007))
    assert text == "loss 0.5 / 0.75  E 2 / - meV/atom  F 50 / 60 meV/Å  W - / 7 meV/atom"


def test_without_a_terminal_first_and_last_are_shown():
    lines = shown(10, map(row, range(1, 11)), interval=1e9)
    assert [line.split(":")[0] for line in lines] == ["epoch 1 of 10", "epoch 10 of 10"]
    assert "E 2 / - meV/atom" in lines[0]
    assert lines[0].endswith("2 s/epoch, 0:00:18 left")
    assert len(shown(10, map(row, range(1, 11)), interval=0.0)) == 10


def test_seconds_of_rows_that_stand_for_many_epochs():
    # The first row stands for nobody knows how many: a fit may go on from a checkpoint.
    rows = [{"epoch": k, "loss": 1.0, "seconds": 50.0} for k in (100, 200, 300)]
    lines = shown(400, rows, interval=0.0)
    assert lines[0] == "epoch 100 of 400: loss 1"
    assert lines[1].endswith("0.5 s/epoch, 0:01:40 left")
    assert lines[2].endswith("0.5 s/epoch, 0:00:50 left")


def test_in_a_terminal_a_bar():
    text = io.StringIO()
    with Progress(10, console=Console(file=text, force_terminal=True, width=200)) as progress:
        for k in range(1, 11):
            progress.update(row(k))
    assert "epoch 10 of 10" in text.getvalue()
    assert "F 50 / - meV/Å" in text.getvalue()


def read(folder):
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    with open(folder / "log.csv", newline="") as file:
        return rows, list(csv.DictReader(file))


def test_logs_are_on_disk_after_every_row(tmp_path):
    log = Log(tmp_path / "a" / "b")
    for k in (1, 2, 3):
        log(row(k))
        rows, table = read(tmp_path / "a" / "b")
        assert len(rows) == len(table) == k
    assert rows == [row(1), row(2), row(3)]
    assert [float(r["loss"]) for r in table] == [1, 1 / 2, 1 / 3]
    header = (tmp_path / "a" / "b" / "log.csv").read_text().splitlines()[0]
    assert header == "epoch,loss,train_energy,train_forces,seconds"


def test_a_resumed_fit_repeats_no_epoch(tmp_path):
    log = Log(tmp_path)
    for k in range(1, 6):
        log.write(row(k, run=1))
    log = Log(tmp_path)  # the checkpoint was of epoch 3
    for k in (4, 5, 6):
        log.write(row(k, run=2))
    rows, table = read(tmp_path)
    assert [(r["epoch"], r["run"]) for r in rows] == [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2)]
    assert [(int(r["epoch"]), int(r["run"])) for r in table] == [(r["epoch"], r["run"]) for r in rows]


def test_columns_that_come_later(tmp_path):
    log = Log(tmp_path)
    log.write(row(1))
    log.write(row(2, rmse_energy=0.1))
    log.write(row(3))
    rows, table = read(tmp_path)
    assert [r["rmse_energy"] for r in table] == ["", "0.1", ""]
    assert "rmse_energy" not in rows[2]
    assert all(None not in r for r in table)


def test_an_unfinished_line_is_dropped_and_others_are_refused(tmp_path):
    log = Log(tmp_path)
    log.write(row(1))
    with open(log.jsonl, "a") as file:
        file.write('{"epoch": 2, "lo')
    log = Log(tmp_path)
    assert [r["epoch"] for r in log.rows] == [1]
    log.write(row(2))
    assert len(read(tmp_path)[0]) == 2
    log.jsonl.write_text("not a log\n")
    with pytest.raises(ValueError, match="line 1"):
        Log(tmp_path)


def test_what_is_not_finite_is_valid_json(tmp_path):
    log = Log(tmp_path)
    log.write(row(1, rmse_energy=float("nan")))
    assert "NaN" not in log.jsonl.read_text()
    assert log.rows[0]["rmse_energy"] is None
    assert log.rows[0]["loss"] == 1.0
