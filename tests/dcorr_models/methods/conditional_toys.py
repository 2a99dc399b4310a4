"""Toy forms of cVAE, cVAE-GAN and the projection cGAN, on `ToyImages`, and what they share."""

from __future__ import annotations

from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from dcorr_models.methods.class_conditional import ClassConditional
from dcorr_models.training.fit import LoopSettings, fit
from tests.dcorr_models.toy import ToyImages

CLASSES, LATENT, BATCH = 4, 3, 24


class LabelledNet(nn.Module):
    """(first, second) side by side through one hidden layer, with BatchNorm or without."""

    def __init__(self, size: int, out: int, *, norm: bool = False, image: bool = False) -> None:
        super().__init__()
        middle = [nn.BatchNorm1d(16)] if norm else []
        self.net = nn.Sequential(
            nn.Linear(size, 16), *middle, nn.Tanh(), nn.Linear(16, out),
            *([nn.Sigmoid(), nn.Unflatten(1, (1, 12, 12))] if image else []),
        )  # fmt: skip

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        if second.dtype == torch.int64:
            second = nn.functional.one_hot(second, CLASSES).to(first.dtype)
        return self.net(torch.cat([first.flatten(1), second.flatten(1)], dim=1))


class Judge(nn.Module):
    """Images, and their classes or not, to (logits, features)."""

    def __init__(self, out: int, *, labels: int = 0, norm: bool = False) -> None:
        super().__init__()
        self.squeeze = out == 1
        middle = [nn.BatchNorm1d(6)] if norm else []
        self.trunk = nn.Sequential(nn.Linear(144 + labels, 6), *middle, nn.Tanh())
        self.head = nn.Linear(6, out)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        flat = images.flatten(1)
        if labels is not None:
            one_hot = nn.functional.one_hot(labels, CLASSES).to(flat.dtype)
            flat = torch.cat([flat, one_hot], dim=1)
        features = self.trunk(flat)
        logits = self.head(features)
        return (logits[:, 0] if self.squeeze else logits), features


def conditional_nets(*, norm: bool = False) -> dict[str, nn.Module]:
    """Encoder and decoder."""
    return {
        "encoder": LabelledNet(144 + CLASSES, 2 * LATENT, norm=norm),
        "decoder": LabelledNet(CLASSES + LATENT, 144, norm=norm, image=True),
    }


def toy(method: type[ClassConditional], *, seed: int = 0, **options):
    """A method on `ToyImages`; `options` go before the toy settings."""
    torch.manual_seed(seed)
    settings: dict = {
        "architecture": "mnist_small", "image_shape": (1, 12, 12), "num_labels": CLASSES,
        "batch_size": BATCH, "steps": 10, "lr": 1e-2,
    }  # fmt: skip
    return method(**(settings | options))


def batch(n: int = BATCH) -> dict[str, Tensor]:
    return ToyImages().splits().train.__getitems__(range(n))


def in_double(data: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.double() if v.is_floating_point() else v for k, v in data.items()}


def prepared(model: ClassConditional, *, precision: str = "32-true"):
    """The method's only stage, set up."""
    (stage,) = model.stages()
    stage.setup(Fabric(accelerator="cpu", devices=1, precision=precision))
    return stage


def trained(model: ClassConditional, folder: Path, *, steps: int, seed: int = 5):
    (stage,) = model.stages()
    stage.max_steps = steps
    fabric = Fabric(accelerator="cpu", devices=1)
    data, settings = ToyImages(train=144).splits().train, LoopSettings(progress=False)
    fit(stage, data, fabric=fabric, folder=folder, seed=seed, settings=settings)
    return model


def check_resume(make, folder: Path) -> None:
    """Ten steps are five, saved, loaded and five more, bit for bit."""
    whole = trained(make(seed=0), folder / "whole", steps=10).state_dict()
    trained(make(seed=0), folder / "parts", steps=5)
    torch.rand(17)  # whatever happens to the random state in between
    resumed = trained(make(seed=99), folder / "parts", steps=10).state_dict()
    assert whole
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)


def moved_by(make, player: str | None) -> set[str]:
    """Networks whose parameters move in a step in which one player alone, or each, may learn."""
    model = make()
    stage = prepared(model)
    update = stage.update
    stage.update = lambda name, loss, **rest: (
        update(name, loss, **rest) if player in (name, None) else None
    )
    before = {k: v.detach().clone() for k, v in model.named_parameters()}
    stage.step(batch(stage.batch_size))
    return {k.split(".")[0] for k, v in model.named_parameters() if not torch.equal(v, before[k])}
