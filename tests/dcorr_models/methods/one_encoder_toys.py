"""Toy methods with one encoder, on the toy data sets, and what their tests share."""

from __future__ import annotations

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from dcorr_models.methods import AEXCov, MddAE
from tests.dcorr_models.toy import ToyAttributes, ToyDecoder, ToyEncoder, ToyImages


def toy(method: type[AEXCov] | type[MddAE], *, seed: int = 0, multilabel: bool = False, **options):
    torch.manual_seed(seed)
    labels = 3 if multilabel else 4
    settings: dict = {
        "image_shape": (1, 12, 12),
        "num_labels": labels,
        "multilabel": multilabel,
        "latent_dim": 3,
        "batch_size": 24,
        "steps": 10,
        "lr": 1e-3,
        "encoder": ToyEncoder(labels + 3),
        "decoder": ToyDecoder(labels),
    }
    return method(**(settings | options))


def batch(*, multilabel: bool = False) -> dict[str, Tensor]:
    source = ToyAttributes() if multilabel else ToyImages()
    return source.splits().train.__getitems__(range(24))


def prepared(model, *, dropout: bool = False):
    """The method's only stage, set up; without dropout a second forward pass gives the same."""
    if not dropout:
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    (stage,) = model.stages()
    stage.setup(Fabric(accelerator="cpu", devices=1))
    return stage


def gradients(network: nn.Module) -> list[Tensor | None]:
    return [None if p.grad is None else p.grad.clone() for p in network.parameters()]


def doubled(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.double() if v.is_floating_point() else v for k, v in batch.items()}
