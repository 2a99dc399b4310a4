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
    first, second = run("two_processes_gans", tmp_path / "both", "code_means", "2", "4")
    (tmp_path / "alone").mkdir()
    work(Fabric(accelerator="cpu", devices=1), tmp_path / "alone", "code_means", [4])
    alone = torch.load(tmp_path / "alone" / "rank0.pt", weights_only=True)["code_means.sums"]
    assert alone[-1, -1] == 96
    assert torch.equal(first["code_means.sums"], second["code_means.sums"])
    torch.testing.assert_close(first["code_means.sums"], alone, rtol=1e-6, atol=1e-6)
