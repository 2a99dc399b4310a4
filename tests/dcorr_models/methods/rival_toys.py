"""Toy rivals of LORD on the toy contents, and what their tests share."""

from __future__ import annotations

from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from dcorr_models.methods.class_content import ClassContent
from dcorr_models.training.fit import LoopSettings, fit
from tests.dcorr_models.toy import ToyContents

CLASS_DIM, CONTENT_DIM, BATCH = 3, 2, 16


def dense_encoder(out: int) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(144, 16), nn.Tanh(), nn.Linear(16, out))


class DenseToyDecoder(nn.Module):
    """No image depends on another one."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        size = CLASS_DIM + CONTENT_DIM
        self.shape = (channels, 12, 12)
        self.net = nn.Sequential(
            nn.Linear(size, 16), nn.Tanh(), nn.Linear(16, channels * 144), nn.Sigmoid()
        )

    def forward(self, class_code: Tensor, content_code: Tensor) -> Tensor:
        codes = torch.cat([class_code, content_code], dim=1)
        return self.net(codes).unflatten(1, self.shape)


def toy_rival(method: type[ClassContent], *, seed: int = 0, **options):
    """A method on `ToyContents`; `options` go before the toy settings."""
    torch.manual_seed(seed)
    settings: dict = {
        "image_shape": (1, 12, 12),
        "num_labels": 8,
        "class_dim": CLASS_DIM,
        "content_dim": CONTENT_DIM,
        "batch_size": BATCH,
        "steps": 10,
        "lr": 1e-2,
        "decoder": DenseToyDecoder(),
    }
    return method(**(settings | options))


def batch(images_per_class: int) -> dict[str, Tensor]:
    """A batch of groups."""
    data = ToyContents().splits().train
    groups = [
        torch.nonzero(data.labels == k).flatten()[:images_per_class]
        for k in range(BATCH // images_per_class)
    ]
    return data.__getitems__(torch.cat(groups).tolist())


def prepared(model: ClassContent):
    """The method's only stage, set up."""
    (stage,) = model.stages()
    stage.setup(Fabric(accelerator="cpu", devices=1))
    return stage


def trained(model: ClassContent, folder: Path, *, steps: int, seed: int = 5) -> ClassContent:
    (stage,) = model.stages()
    stage.max_steps = steps
    fit(
        stage,
        ToyContents().splits().train,
        fabric=Fabric(accelerator="cpu", devices=1),
        folder=folder,
        seed=seed,
        settings=LoopSettings(progress=False),
    )
    return model


def moved(model: nn.Module, before: dict[str, Tensor]) -> set[str]:
    """The names of the networks whose parameters are no longer those of `before`."""
    return {k.split(".")[0] for k, v in model.named_parameters() if not torch.equal(v, before[k])}


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in model.named_parameters()}


def check_resume(make, folder: Path) -> None:
    """Ten steps are five, saved, loaded and five more, bit for bit."""
    whole = trained(make(seed=0), folder / "whole", steps=10).state_dict()
    trained(make(seed=0), folder / "parts", steps=5)
    torch.rand(17)  # whatever happens to the random state in between
    resumed = trained(make(seed=99), folder / "parts", steps=10).state_dict()
    assert whole
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)
