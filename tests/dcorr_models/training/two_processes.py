"""Run by test_distributed.py: trains a toy CDNet on two gloo processes, each writes its weights.

    python -m tests.dcorr_models.training.two_processes FOLDER UPDATES STEPS...

With several STEPS the run stops and goes on from its checkpoint in between.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from lightning_fabric import Fabric

from dcorr_models.training.fit import LoopSettings, fit
from tests.dcorr_models.toy import ToyImages, toy_cdnet


def work(fabric: Fabric, folder: Path, updates: str, stops: list[int]) -> None:
    data = ToyImages().splits().train
    settings = LoopSettings(progress=False, log_every=1)
    for stop in stops:
        model = toy_cdnet(updates=updates, gate=True)
        torch.rand(fabric.global_rank + 1)  # the ranks' states are not the same here
        for stage in model.stages():
            if stage.name == "disentangle":
                stage.max_steps = stop
            fit(stage, data, fabric=fabric, folder=folder, seed=5, settings=settings)
    torch.save(model.state_dict(), folder / f"rank{fabric.global_rank}.pt")


def main() -> None:
    folder, updates, *stops = sys.argv[1:]
    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp_spawn")
    fabric.launch(work, Path(folder), updates, [int(stop) for stop in stops])


if __name__ == "__main__":
    main()
