"""IcGAN and VAE/GAN on two processes: several passes of a network in one update, gathered sums."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric

from tests.dcorr_models.training.test_distributed import run
from tests.dcorr_models.training.two_processes_gans import work


@pytest.mark.distributed
@pytest.mark.parametrize("name", ["icgan_sequential", "icgan_simultaneous", "vae_gan"])
def test_ranks_agree_and_resume_is_exact(tmp_path: Path, name: str):
    first, second = run("two_processes_gans", tmp_path / "whole", name, "8")
    assert all(torch.equal(first[k], second[k]) for k in first)
    resumed, _ = run("two_processes_gans", tmp_path / "parts", name, "3", "8")
    assert all(torch.equal(first[k], resumed[k]) for k in first)


@pytest.mark.distributed
def test_the_sums_of_codes_are_those_of_one_process(tmp_path: Path):
    # 0 updates before: the same encoder, whatever the number of processes
    both, _ = run("two_processes_gans", tmp_path / "both", "vae_gan", "0", "4")
    (tmp_path / "alone").mkdir()
    fabric = Fabric(accelerator="cpu", devices=1)
    work(fabric, tmp_path / "alone", "vae_gan", [4])
    alone = torch.load(tmp_path / "alone" / "rank0.pt", weights_only=True)
    assert both["code_means.sums"][-1, -1] == alone["code_means.sums"][-1, -1] == 96
    assert both["code_means.sums"].any()
