"""The runner on few samples: rows, statuses, and what is left out."""

from __future__ import annotations

import time
from pathlib import Path

import cases
import distance_covariance as runner
import peers
import processes
import pytest
import torch
from cases import Case
from distance_covariance import Limits
from measure import read_rows
from peers import RIVALS, Rival, Work, by_torch

CPU = torch.device("cpu")


def run(out: Path, *arguments: str) -> tuple[int, list[dict[str, str]]]:
    code = runner.main(["--quick", "--out", str(out), *arguments])
    return code, read_rows(out)


def test_every_case_runs(tmp_path: Path) -> None:
    sections = ("targets", "others", "crossover", "growth")
    code, rows = run(tmp_path / "rows.csv", "--sections", *sections)
    assert code == 0
    assert {row["section"] for row in rows} == set(sections)
    assert {row["case"] for row in rows} >= {target.case for target in cases.TARGETS["cpu"][:-1]}
    # Only other people's libraries may be missing.
    untimed = {row["rival"]: row["status"] for row in rows if row["status"] != "timed"}
    assert set(untimed) <= {"pykeops", "geomloss energy", "dcorr sliced"}, untimed
    assert all("missing: " in status for status in untimed.values())
    for row in rows:
        timed = row["status"] == "timed"
        assert timed == bool(row["rounds"])
        assert not timed or float(row["forward_ms"] or row["both_ms"]) > 0
        assert row["device"].startswith("cpu: ")
        assert row["commit"]
    assert any(float(row["peak_mb"] or 0) > 0 for row in rows)
    differentiable = [row for row in rows if RIVALS[row["rival"]].differentiable]
    assert all(row["both_ms"] for row in differentiable if row["status"] == "timed")


def test_sections_that_are_not_run_keep_their_rows(tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    _, first = run(out, "--sections", "crossover", "targets", "--cases", "wide", "crossover_10_128")
    _, second = run(out, "--sections", "crossover", "--cases", "crossover_10_128")
    kept = [row for row in first if row["section"] == "targets"]
    assert kept
    assert [row for row in second if row["section"] == "targets"] == kept
    assert len(second) == len(first)
    assert second != first


@pytest.mark.parametrize("own", [False, True])
def test_a_failed_check_is_not_timed(
    own: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = Rival(by_torch(lambda x, y: peers.by_cdist(x, y) + 1), own=own)
    monkeypatch.setitem(RIVALS, "cdist", wrong)
    code, rows = run(tmp_path / "rows.csv", "--sections", "targets", "--cases", "wide")
    by_rival = {row["rival"]: row for row in rows}
    assert code == int(own)  # what others get wrong is told, and the run goes on
    assert by_rival["cdist"]["status"].startswith("check failed: value off by")
    assert by_rival["cdist"]["both_ms"] == ""
    assert by_rival["dcorr"]["status"] == "timed"
    assert "1 failed checks" in capsys.readouterr().out


def test_what_cannot_run_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*samples: object) -> None:
        raise ValueError("no such method\nmore")

    monkeypatch.setitem(RIVALS, "cdist", Rival(refuses))  # type: ignore[arg-type]
    code, rows = run(tmp_path / "rows.csv", "--sections", "targets", "--cases", "wide")
    assert code == 0
    assert {row["rival"]: row["status"] for row in rows}["cdist"] == (
        "missing: ValueError: no such method"
    )


def test_rivals_that_would_pass_a_limit_are_left_out() -> None:
    case = Case("growth", "many dimensions", 4096, 10, 64, ())
    limits = Limits(seconds=20, gigabytes=4)
    assert limits.reason(case, "dcor AVL") == "left out: for one dimension only"
    assert limits.reason(case, "broadcast") == "left out: about 15 GB, limit 4 GB"
    assert limits.reason(case, "cdist") == ""
    assert limits.too_slow(Work(lambda: time.sleep(0.02), None, None, None), CPU) == ""
    limits.learn(case, "cdist", 1.5)
    limits.learn(case, "dcorr sliced", 1.5)
    larger = case._replace(n=4 * case.n)
    limits.bytes = 1e15
    assert limits.reason(larger, "cdist") == "left out: about 24 s a call, limit 20 s"
    assert limits.reason(larger, "dcorr sliced") == ""  # not quadratic: 6 s
    assert limits.reason(larger._replace(name="one dimension"), "cdist") == ""
    limits.seconds = 0.01
    # `both` gives gradients, which sleeping does not; here only the time that it takes counts.
    work = Work(None, None, None, lambda: time.sleep(0.02))  # type: ignore  # a wait, no tensors
    late = limits.too_slow(work, CPU)
    assert late.startswith("left out: ")


def test_cases_and_targets_fit_together() -> None:
    for device in ("cpu", "cuda"):
        names = {case.name for case in cases.all_cases(device)} | {processes.SECTION}
        assert {target.case for target in cases.TARGETS[device]} <= names
        assert {rival for case in cases.all_cases(device) for rival in case.rivals} <= set(RIVALS)
        assert {case.section for case in cases.all_cases(device)} < set(runner.SECTIONS)


@pytest.mark.distributed
def test_two_processes(tmp_path: Path) -> None:
    code, rows = run(tmp_path / "rows.csv", "--sections", processes.SECTION)
    assert code == 0
    alone, together = rows
    assert [row["status"] for row in rows] == ["timed", "timed"], rows
    assert float(together["both_ms"]) > 0
    n = int(together["n"])
    # Two processes cover each pair at least once, and no process covers all of them.
    assert n**2 / 4 <= float(together["pairs"]) < float(alone["pairs"])
