"""Run by test_distributed.py: trains a toy CDNet without batch norm and dropout on PROCESSES.

Such a network sees each image for itself, so the number of processes changes nothing but the
regulariser, if that.

    python -m tests.dcorr_models.training.global_batch FOLDER PROCESSES DECORRELATION
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import nn

import dcorr
from dcorr_models.nets.cdnet import CriticOutput
from dcorr_models.training.fit import LoopSettings, fit
from tests.dcorr_models.toy import ToyImages, toy_cdnet

REGULARISERS = {
    "dcov2": "dcov2",
    "xcov": "xcov",
    "module": dcorr.DCov2Loss(unbiased=True, group="world"),
}


class PlainDecoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(7, 144), nn.Sigmoid())

    def forward(self, label_code: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        return self.net(torch.cat([label_code, residual], dim=1)).unflatten(1, (1, 12, 12))


class PlainCritic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Flatten(), nn.Linear(144, 16))
        self.head = nn.Sequential(nn.Tanh(), nn.Linear(16, 1))

    def forward(self, images: torch.Tensor) -> CriticOutput:
        features = self.trunk(images)
        return CriticOutput(self.head(features), features)


def encoder(out: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(144, 16), nn.Tanh(), nn.Linear(16, out))


def work(fabric: Fabric, folder: Path, decorrelation: str) -> None:
    torch.manual_seed(0)
    model = toy_cdnet(
        label_encoder=encoder(4),
        residual_encoder=encoder(3),
        decoder=PlainDecoder(),
        discriminator=PlainCritic(),
        decorrelation=REGULARISERS[decorrelation],
        decorrelation_weight=5.0,
    )
    settings = LoopSettings(progress=False, log_every=1)
    for stage in model.stages():
        data = ToyImages().splits().train
        fit(stage, data, fabric=fabric, folder=folder, seed=5, settings=settings)
    torch.save(model.state_dict(), folder / f"rank{fabric.global_rank}.pt")


def main() -> None:
    folder, processes, decorrelation = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    strategy = "ddp_spawn" if processes > 1 else "auto"
    fabric = Fabric(accelerator="cpu", devices=processes, strategy=strategy)
    fabric.launch(work, folder, decorrelation)


if __name__ == "__main__":
    main()
