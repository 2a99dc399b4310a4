"""Rivals, Lr-LiVAE, VAEs, ID-GAN on two processes: groups, passes without gradient, rows of all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.dcorr_models.training.test_distributed import run


@pytest.mark.distributed
def test_ranks_agree_and_resume_is_exact(tmp_path: Path):
    first, second = run("two_processes_rivals", tmp_path / "runs")
    names = {"ml_vae", "cycle_vae", "drnet", "lr_livae", "lr_livae_dcov"}
    names |= {"dcov_vae", "factor_vae", "limited", "info_gan", "end_to_end", "adversarial_vae"}
    assert {key.split()[0] for key in first} == names
    for key in first:
        assert torch.equal(first[key], second[key]), key
        assert torch.equal(first[key], first[key.replace(" parts ", " whole ")]), key
