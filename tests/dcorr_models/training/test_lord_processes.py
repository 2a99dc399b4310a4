"""LORD on two processes: the same weights and tables on both."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor

from tests.dcorr_models.training.test_distributed import run
from tests.dcorr_models.training.two_processes_lord import work


def on_two(folder: Path, variant: str) -> dict[str, Tensor]:
    first, second = run("two_processes_lord", folder, variant)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    return first


@pytest.mark.distributed
def test_every_rank_has_the_table_of_one_process(tmp_path):
    both = on_two(tmp_path / "both", "lord")
    assert "table 0" in both
    work(Fabric(accelerator="cpu", devices=1), tmp_path, "lord")
    for name, value in torch.load(tmp_path / "rank0.pt", weights_only=True).items():
        torch.testing.assert_close(both[name], value, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.slow
@pytest.mark.distributed
def test_every_rank_has_the_same_amortised_model(tmp_path):
    """Another than one process has: a class with groups on both is averaged on each by itself."""
    assert any(
        name.startswith("class_encoder") for name in on_two(tmp_path / "both", "amortised-noise")
    )
