"""Two processes train auto-encoders with one encoder as one process does."""

from __future__ import annotations

import pytest
import torch
from lightning_fabric import Fabric

from tests.dcorr_models.training.one_encoder_processes import CASES, work
from tests.dcorr_models.training.test_distributed import run


@pytest.mark.distributed
@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_as_one(tmp_path, case):
    work(Fabric(accelerator="cpu", devices=1), tmp_path, case)
    alone = torch.load(tmp_path / "rank0.pt", weights_only=True)
    for weights in run("one_encoder_processes", tmp_path / "both", case):
        for name, value in alone.items():
            torch.testing.assert_close(weights[name], value, rtol=1e-4, atol=1e-5)
