"""The clock and the scale."""

from __future__ import annotations

from pathlib import Path

import measure
import pytest
import torch
from measure import Prepared, keep_threads, read_rows, summary, time_for, time_in_turn, write_rows
from memory import extra_on_cpu, peak_mb

CPU = torch.device("cpu")


def test_rivals_are_called_in_turn_and_setups_are_not_timed() -> None:
    said: list[str] = []
    calls = {
        "a": lambda: said.append("a"),
        "b": Prepared(lambda: said.append("made") or "b", said.append),
    }
    times = time_in_turn(calls, rounds=2, warmup=1, device=CPU)
    # Each once untimed, right before it is timed.
    assert said == ["a", "a", "made", "b", "made", "b"] * 3
    assert {name: len(values) for name, values in times.items()} == {"a": 2, "b": 2}


def test_long_calls_are_not_made_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "LONG", 0.0)
    said: list[str] = []
    time_in_turn({"a": lambda: said.append("a")}, rounds=3, warmup=0, device=CPU)
    assert len(said) == 1 + 3  # only the first time it is not known how long it takes


def test_a_budget_sets_the_rounds() -> None:
    calls = {"a": lambda: None}
    assert len(time_for(calls, budget=0, least=4, most=9, device=CPU)["a"]) == 4
    assert len(time_for(calls, budget=5, least=4, most=9, device=CPU)["a"]) == 9


def test_summary_is_the_median_and_the_quartiles() -> None:
    assert summary([5.0, 1.0, 2.0, 4.0, 3.0]) == (3.0, 2.0, 4.0)
    assert summary([7.0]) == (7.0, 7.0, 7.0)


def test_a_change_of_threads_is_taken_back() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(before + 1)
        keep_threads(before)
        assert torch.get_num_threads() == before
    finally:
        torch.set_num_threads(before)


def test_rows_may_have_different_columns(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.csv"
    assert read_rows(path) == []
    write_rows(path, [{"a": 1}, {"b": "x, y"}])
    assert read_rows(path) == [{"a": "1", "b": ""}, {"a": "", "b": "x, y"}]


def test_peak_counts_what_is_freed_again() -> None:
    def call() -> float:
        return torch.ones(12_500_000).double().sum().item()  # 50 MB, then 100 MB beside them

    assert extra_on_cpu(call) == pytest.approx(150, rel=0.05)


def test_peak_of_a_rival_in_a_process_of_its_own() -> None:
    # A matrix of all pairs has 4.2 MB; autograd keeps several.
    peak = peak_mb("cdist", 1024, 2, 2, "float32", "cpu", 1)
    assert 4 * 4.2 < peak < 16 * 4.2
