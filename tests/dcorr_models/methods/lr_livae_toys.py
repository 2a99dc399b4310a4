"""A small Lr-LiVAE on `ToyContents`: dense networks, in which no image depends on another."""

from __future__ import annotations

import torch
from torch import Tensor

from dcorr_models.data import LabelledImages
from dcorr_models.methods import LrLiVAE
from tests.dcorr_models.methods.rival_toys import (
    CLASS_DIM,
    CONTENT_DIM,
    DenseToyDecoder,
    dense_encoder,
)
from tests.dcorr_models.toy import ToyContents

BATCH, CLASSES = 16, 8


def toy_lr_livae(*, seed: int = 0, **options) -> LrLiVAE:
    torch.manual_seed(seed)
    settings: dict = {
        "architecture": "toy",
        "image_shape": (1, 12, 12),
        "num_labels": CLASSES,
        "class_dim": CLASS_DIM,
        "content_dim": CONTENT_DIM,
        "n_gm": 2,
        "batch_size": BATCH,
        "steps": 10,
        "unlabelled_batch_size": 8,
        "unlabelled_steps": 4,
        "lr": 1e-2,
        "class_encoder": dense_encoder(CLASS_DIM),
        "content_encoder": dense_encoder(2 * CONTENT_DIM),
        "decoder": DenseToyDecoder(),
    }
    return LrLiVAE(**(settings | options))


def images() -> LabelledImages:
    return ToyContents().splits().train


def partly_labelled(*unknown: int) -> LabelledImages:
    """The same, the images of some classes without their label."""
    data = images()
    hidden = torch.isin(data.labels, torch.tensor(unknown))
    return LabelledImages(data.images, torch.where(hidden, -1, data.labels))


def batch(n: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return images().__getitems__(torch.randperm(128, generator=generator)[:n].tolist())
