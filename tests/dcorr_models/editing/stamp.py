"""An exact method, for tests of edits."""

from __future__ import annotations

import torch
from torch import Tensor

from dcorr_models.methods import Codes, Method


class Stamp(Method):
    """An exact method: the first row of an image is its label code, the second its residual."""

    def __init__(self, *, multilabel: bool = False) -> None:
        super().__init__()
        self.image_shape, self.num_labels, self.multilabel = (1, 2, 4), 4, multilabel
        self.seen_training: list[bool] = []
        self.decoded: list[int] = []

    def stages(self) -> list:
        return []

    def encode(self, images: Tensor) -> Codes:
        self.seen_training.append(self.training or torch.is_grad_enabled())
        return Codes(images[:, 0, 0], images[:, 0, 1])

    def decode(self, codes: Codes) -> Tensor:
        self.seen_training.append(self.training or torch.is_grad_enabled())
        self.decoded.append(len(codes.label))
        return torch.stack(codes, dim=1).unsqueeze(1)


def stamps(n: int, seed: int = 0) -> Tensor:
    return torch.rand(n, 1, 2, 4, generator=torch.Generator().manual_seed(seed))
