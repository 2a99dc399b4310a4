"""Inception-v3 without torchvision, and with something in its place."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from dcorr_models.errors import UserError
from dcorr_models.nets.inception import Inception, inception_v3


class Seen(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc: nn.Module = nn.Linear(3, 10)

    def forward(self, images: Tensor) -> Tensor:
        assert images.shape[1:] == (3, 299, 299)
        return self.fc(images.mean(dim=(2, 3)))


def test_without_torchvision(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(UserError, match=r"needs torchvision.*or choose other features"):
        inception_v3(value_range=(0.0, 1.0))


def test_with_torchvision(monkeypatch):
    models = ModuleType("torchvision.models")
    asked = []
    models.inception_v3 = lambda weights: asked.append(weights) or Seen()
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    network = inception_v3(value_range=(-1.0, 1.0))
    assert isinstance(network, Inception)
    assert asked == ["IMAGENET1K_V1"]
    assert not network.training
    grey = network(torch.zeros(2, 1, 8, 8))  # the middle of the range
    expected = (0.5 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    assert grey.shape == (2, 3)
    assert torch.allclose(grey[0], expected, atol=1e-5)
