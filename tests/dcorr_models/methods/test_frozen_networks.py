"""Networks of the user's own whose parameters are switched off, or that have none."""

from __future__ import annotations

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from dcorr_models.errors import UserError
from dcorr_models.methods import AEXCov, MddAE
from dcorr_models.training.fit import LoopSettings, fit
from tests.dcorr_models.methods.one_encoder_toys import toy
from tests.dcorr_models.methods.test_icgan import toy_icgan
from tests.dcorr_models.methods.test_vae_gan import toy_vae_gan
from tests.dcorr_models.toy import ToyAttributes, toy_attribute_cdnet

MAKERS = {
    "cdnet": toy_attribute_cdnet,
    "cdnet sequential": lambda: toy_attribute_cdnet(updates="sequential"),
    "icgan": toy_icgan,
    "icgan simultaneous": lambda: toy_icgan(updates="simultaneous"),
    "vae/gan": toy_vae_gan,
    "ae-xcov": lambda: toy(AEXCov, multilabel=True),
    "ae-xcov simultaneous": lambda: toy(AEXCov, multilabel=True, updates="simultaneous"),
    "mddae": lambda: toy(MddAE, multilabel=True),
}
CASES = [
    (method, name)
    for method, make in MAKERS.items()
    for name, network in make().named_children()
    if any(True for _ in network.parameters())
]


@pytest.mark.parametrize(("method", "name"), CASES)
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "part"])
def test_parameters_without_gradient_stay_and_all_others_learn(method, name, whole, tmp_path):
    model = MAKERS[method]()
    parameters = list(model.get_submodule(name).parameters())
    for parameter in parameters if whole else parameters[:1]:
        parameter.requires_grad_(False)
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    for stage in model.stages():
        stage.max_steps = min(stage.max_steps, 2)
        fit(
            stage,
            ToyAttributes().splits().train,
            fabric=Fabric(accelerator="cpu", devices=1),
            folder=tmp_path,
            settings=LoopSettings(progress=False, log_every=1),
        )
    for key, parameter in model.named_parameters():
        assert torch.equal(before[key], parameter) != parameter.requires_grad, key


class Bare(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)[:, :3]


@pytest.mark.parametrize(
    "make",
    [
        lambda: toy_attribute_cdnet(label_encoder=Bare(), label_steps=0),
        lambda: toy_icgan(label_encoder=Bare()),
        lambda: toy(MddAE, encoder=Bare(), decoder=Bare()),
    ],
    ids=["cdnet", "icgan", "mddae"],
)
def test_a_network_without_parameters_is_refused_by_its_name(make):
    with pytest.raises(UserError, match=r"Bare.* has no parameters"):
        make().stages()
