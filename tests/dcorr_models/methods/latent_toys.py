"""Toy forms of the VAEs of independent dimensions, on `ToyImages`, and what their tests share."""

from __future__ import annotations

from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from dcorr_models.methods.latent_vae import LatentVAE
from dcorr_models.training.fit import LoopSettings, fit
from tests.dcorr_models.toy import ToyImages

LATENT, BATCH = 3, 8


def dense_encoder() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(144, 16), nn.Tanh(), nn.Linear(16, 2 * LATENT))


def dense_decoder() -> nn.Module:
    return nn.Sequential(
        nn.Linear(LATENT, 16), nn.Tanh(), nn.Linear(16, 144), nn.Unflatten(1, (1, 12, 12))
    )


class NoNoise(nn.Module):
    """An encoder whose draws are its means: log-variances of -100."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(144, LATENT))

    def forward(self, images: Tensor) -> Tensor:
        mean = self.net(images)
        return torch.cat([mean, torch.full_like(mean, -100.0)], dim=1)


def toy(method: type[LatentVAE], *, seed: int = 0, **options):
    """A method on `ToyImages`; `options` go before the toy settings."""
    torch.manual_seed(seed)
    settings: dict = {
        "image_shape": (1, 12, 12), "latent_dim": LATENT, "batch_size": BATCH, "steps": 10,
        "lr": 1e-2, "encoder": dense_encoder(), "decoder": dense_decoder(),
    }  # fmt: skip
    model = method(**(settings | options))
    model.meet(ToyImages().splits().train)
    return model


def batch(n: int = BATCH) -> dict[str, Tensor]:
    return ToyImages().splits().train.__getitems__(range(n))


def prepared(model: LatentVAE):
    """The method's only stage, set up."""
    (stage,) = model.stages()
    stage.setup(Fabric(accelerator="cpu", devices=1))
    return stage


def trained(model: LatentVAE, folder: Path, *, steps: int, fabric: Fabric | None = None):
    (stage,) = model.stages()
    stage.max_steps = steps
    data, settings = ToyImages().splits().train, LoopSettings(progress=False, log_every=1)
    fabric = fabric or Fabric(accelerator="cpu", devices=1)
    fit(stage, data, fabric=fabric, folder=folder, seed=5, settings=settings)
    return model
