"""Run by test_distributed_gans.py: trains a toy IcGAN or VAE/GAN on gloo processes.

    python -m tests.dcorr_models.training.two_processes_gans FOLDER METHOD STEPS...

With several STEPS the run stops in its first stage and goes on from its checkpoint. METHOD may be
`code_means`: the second stage of VAE/GAN alone, on an encoder that has learned nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from lightning_fabric import Fabric

from dcorr_models.methods import Method
from dcorr_models.training.fit import LoopSettings, fit
from tests.dcorr_models.methods.test_icgan import toy_icgan
from tests.dcorr_models.methods.test_vae_gan import toy_vae_gan
from tests.dcorr_models.toy import ToyAttributes


def make(name: str) -> Method:
    if name in ("vae_gan", "code_means"):
        return toy_vae_gan(gate=True, fakes="both")
    updates = name.removeprefix("icgan_")
    return toy_icgan(updates=updates, wrong_label_weight=0.5, stored_codes=50)


def work(fabric: Fabric, folder: Path, name: str, stops: list[int]) -> None:
    data = ToyAttributes().splits().train
    settings = LoopSettings(progress=False, log_every=1)
    for stop in stops:
        model = make(name)
        torch.rand(fabric.global_rank + 1)  # the ranks' states are not the same here
        first, second = model.stages()
        chosen = {"code_means": [second]}.get(
            name, [first, second] if stop == stops[-1] else [first]
        )
        for stage in chosen:
            stage.max_steps = min(stage.max_steps, stop)
            fit(stage, data, fabric=fabric, folder=folder, seed=5, settings=settings)
    torch.save(model.state_dict(), folder / f"rank{fabric.global_rank}.pt")


def main() -> None:
    folder, name, *stops = sys.argv[1:]
    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp_spawn")
    fabric.launch(work, Path(folder), name, [int(stop) for stop in stops])


if __name__ == "__main__":
    main()
