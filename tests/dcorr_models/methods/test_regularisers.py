"""Regularisers of the user's own, and the processes and device that they work on."""

from __future__ import annotations

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from dcorr import xcov
from dcorr_models.methods import AEXCov, MddAE
from tests.dcorr_models.methods.one_encoder_toys import toy
from tests.dcorr_models.toy import toy_attribute_cdnet


class Projected(nn.Module):
    """Cross-covariance with a fixed projection of z, which is a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("directions", torch.eye(3)[:, :2])

    def forward(self, label_code: Tensor, residual: Tensor) -> Tensor:
        return xcov(label_code, residual @ self.directions)


@pytest.mark.parametrize(
    "make",
    [
        toy_attribute_cdnet,
        lambda **options: toy(AEXCov, multilabel=True, **options),
        lambda **options: toy(MddAE, multilabel=True, **options),
    ],
    ids=["cdnet", "ae-xcov", "mddae"],
)
def test_buffers_of_a_regulariser_go_to_the_device_of_the_run(make, monkeypatch):
    regulariser = Projected()
    model = make(decorrelation=regulariser)
    moved = []
    monkeypatch.setattr(regulariser, "to", lambda device: moved.append(device) or regulariser)
    fabric = Fabric(accelerator="cpu", devices=1)
    model.stages()[-1].setup(fabric)
    assert moved == [fabric.device]
    assert not any("directions" in name for name in model.state_dict())
