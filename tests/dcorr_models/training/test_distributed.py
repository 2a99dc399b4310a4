"""Two processes: the ranks agree, and a stopped run continues as if it had not stopped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric

from dcorr_models.training.logs import read_log
from tests.dcorr_models.training.global_batch import work

ROOT = Path(__file__).parents[3]


def train(folder: Path, updates: str, *stops: int) -> list[dict[str, torch.Tensor]]:
    """Weights by rank."""
    return run("two_processes", folder, updates, *map(str, stops))


def run(script: str, folder: Path, *words: str) -> list[dict[str, torch.Tensor]]:
    """Weights by rank, read from files: gloo may abort at interpreter exit on a loaded machine."""
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", f"tests.dcorr_models.training.{script}", str(folder), *words],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    paths = [folder / f"rank{rank}.pt" for rank in range(2)]
    assert all(path.exists() for path in paths), done.stderr[-3000:]
    return [torch.load(path, weights_only=True) for path in paths]


@pytest.mark.distributed
@pytest.mark.parametrize("updates", ["simultaneous", "sequential"])
def test_ranks_agree_and_resume_is_exact(tmp_path, updates):
    first, second = train(tmp_path / "whole", updates, 12)
    assert any("running_mean" in k for k in first)
    assert all(torch.equal(first[k], second[k]) for k in first)
    resumed, _ = train(tmp_path / "parts", updates, 5, 12)
    assert all(torch.equal(first[k], resumed[k]) for k in first)


@pytest.mark.distributed
@pytest.mark.parametrize("decorrelation", ["dcov2", "xcov", "module"])
def test_two_processes_regularise_their_global_batch(tmp_path, decorrelation):
    work(Fabric(accelerator="cpu", devices=1), tmp_path, decorrelation)
    alone = torch.load(tmp_path / "rank0.pt", weights_only=True)
    both = run("global_batch", tmp_path / "both", "2", decorrelation)

    def values(folder: Path) -> torch.Tensor:
        rows = read_log(folder / "log.csv")
        return torch.tensor([r["value"] for r in rows if r["name"] == "loss/decorrelation"])

    assert len(values(tmp_path)) == 12
    torch.testing.assert_close(values(tmp_path / "both"), values(tmp_path), rtol=1e-5, atol=1e-7)
    for weights in both:
        for name, value in alone.items():
            torch.testing.assert_close(weights[name], value, rtol=1e-5, atol=1e-6)
