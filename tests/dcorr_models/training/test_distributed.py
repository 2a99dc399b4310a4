"""Two processes: the ranks agree, and a stopped run continues as if it had not stopped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[3]


def train(folder: Path, updates: str, *stops: int) -> list[dict[str, torch.Tensor]]:
    """Weights by rank, read from files: gloo may abort at interpreter exit on a loaded machine."""
    folder.mkdir()
    words = [str(folder), updates, *map(str, stops)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.dcorr_models.training.two_processes", *words],
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
