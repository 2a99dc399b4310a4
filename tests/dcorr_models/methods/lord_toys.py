"""A LORD on `ToyContents`, whose networks are a few dense layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dcorr_models.data import LabelledImages
from dcorr_models.methods import LORD
from tests.dcorr_models.toy import ToyContents

CLASS_DIM, CONTENT_DIM = 6, 4


class ToyGenerator(nn.Module):
    def __init__(self, class_dim: int = CLASS_DIM) -> None:
        super().__init__()
        self.content = nn.Linear(CONTENT_DIM, 16)
        self.shift = nn.Linear(class_dim, 16)
        self.out = nn.Linear(16, 144)

    def forward(self, class_codes: Tensor, content_codes: Tensor) -> Tensor:
        hidden = (self.content(content_codes) + self.shift(class_codes)).relu()
        return self.out(hidden).sigmoid().unflatten(1, (1, 12, 12))


def toy_encoder(out: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(144, 12), nn.Tanh(), nn.Linear(12, out))


def toy_settings(variant: str = "lord") -> dict:
    """Of a LORD for `ToyContents`."""
    kl = variant.endswith("-kl")
    return {
        "image_shape": (1, 12, 12), "num_labels": 8, "variant": variant,
        "class_dim": CLASS_DIM, "content_dim": CONTENT_DIM,
        "reconstruction": "l1", "batch_size": 16, "steps": 10, "encoder_steps": 10,
        "generator": ToyGenerator(), "class_encoder": toy_encoder(CLASS_DIM),
        "content_encoder": toy_encoder(CONTENT_DIM * (2 if kl else 1)),
    }  # fmt: skip


def toy_lord(
    seed: int = 0, *, train: LabelledImages | None = None, variant: str = "lord", **options: object
) -> LORD:
    """Ready to train on `ToyContents`, or on other images."""
    torch.manual_seed(seed)
    model = LORD(**(toy_settings(variant) | options))
    model.meet(ToyContents().splits().train if train is None else train)
    return model
