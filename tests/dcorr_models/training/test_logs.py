from __future__ import annotations

import pytest
import torch

from dcorr_models.errors import RunError
from dcorr_models.training.logs import CsvLog, Meter, Progress, read_log, refuse_non_finite


def test_rows_come_back_as_written(tmp_path):
    log = CsvLog(tmp_path / "log.csv")
    log.write("a", 10, 1.5, {"loss/x": 0.1, "loss/y": 1e-9})
    log.write("b", 1, 2.0, {"loss/x": 3.0})
    rows = read_log(log.path)
    assert [tuple(row.values()) for row in rows] == [
        ("a", 10, 1.5, "loss/x", 0.1),
        ("a", 10, 1.5, "loss/y", 1e-9),
        ("b", 1, 2.0, "loss/x", 3.0),
    ]


def test_rewind_drops_later_rows_of_the_stage_and_a_half_written_line(tmp_path):
    log = CsvLog(tmp_path / "log.csv")
    log.write("a", 10, 1.0, {"loss": 1.0})
    log.write("b", 5, 1.0, {"loss": 2.0})
    log.write("b", 6, 1.0, {"loss": 3.0})
    with log.path.open("a") as file:
        file.write("b,7,1.0,lo")
    log.rewind("b", 5)
    assert [(r["stage"], r["step"]) for r in read_log(log.path)] == [("a", 10), ("b", 5)]


def test_meter_averages_what_was_there():
    meter = Meter()
    meter.add({"x": torch.tensor(1.0)})
    meter.add({"x": torch.tensor(3.0), "y": torch.tensor(5.0)})
    names, means = meter.flush()
    assert dict(zip(names, means.tolist(), strict=True)) == {"x": 2.0, "y": 5.0}


def test_non_finite_losses_name_the_loss_the_step_and_the_stage():
    refuse_non_finite({"loss/x": 1.0}, stage="s", step=3)
    with pytest.raises(RunError, match=r"loss/x became nan at step 3 of stage 's'"):
        refuse_non_finite({"loss/x": float("nan"), "loss/y": 1.0}, stage="s", step=3)


def test_without_a_terminal_the_last_step_prints_a_line(capsys):
    bar = Progress("stage", total=2, every=1e9)
    bar.show({"loss/pixel": 0.25})
    bar.advance()
    bar.advance()
    bar.close()
    assert capsys.readouterr().err == "stage 2/2, 0 s left  pixel 0.25\n"
