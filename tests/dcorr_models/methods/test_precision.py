"""Every method in other number formats: trained, edited and measured."""

from __future__ import annotations

import pytest
import torch
from lightning_fabric import Fabric

from dcorr_models import editing
from dcorr_models.evaluation import evaluate
from dcorr_models.methods import AEXCov, MddAE
from dcorr_models.training.fit import LoopSettings, fit
from tests.dcorr_models.methods.one_encoder_toys import toy
from tests.dcorr_models.methods.test_icgan import toy_icgan
from tests.dcorr_models.methods.test_vae_gan import toy_vae_gan
from tests.dcorr_models.toy import ToyAttributes, toy_attribute_cdnet

MAKERS = {
    "cdnet": toy_attribute_cdnet,
    "cdnet sequential": lambda: toy_attribute_cdnet(updates="sequential", gate=True),
    "icgan": lambda: toy_icgan(wrong_label_weight=0.5, stored_codes=10),
    "vae/gan": lambda: toy_vae_gan(gate=True),
    "ae-xcov": lambda: toy(AEXCov, multilabel=True),
    "mddae": lambda: toy(MddAE, multilabel=True, dssim_weight=1.0),
}


@pytest.fixture
def default_type():
    yield torch.set_default_dtype
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("method", MAKERS)
@pytest.mark.parametrize(
    ("default", "precision", "weights"),
    [
        (torch.float64, "32-true", torch.float64),
        (torch.float32, "64-true", torch.float64),
        (torch.float32, "bf16-true", torch.bfloat16),
    ],
)
def test_methods_work_in_the_precision_of_their_weights(
    method, default, precision, weights, tmp_path, default_type
):
    default_type(default)
    model, splits = MAKERS[method](), ToyAttributes().splits()
    for stage in model.stages():
        stage.max_steps = min(stage.max_steps, 2)
        fit(
            stage,
            splits.train,
            fabric=Fabric(accelerator="cpu", devices=1, precision=precision),
            folder=tmp_path,
            settings=LoopSettings(progress=False, log_every=1),
        )
    assert {p.dtype for p in model.parameters()} == {weights}
    images = splits.test.tensors(limit=4)[0]
    assert images.dtype == torch.float32
    assert editing.sweep(model, images, 1, [0.0, 1.0]).shape == (4, 2, 1, 12, 12)
    result = evaluate(model, splits)
    assert 0 < result["reconstruction"]["rmse"]["mean"] < 1


def test_images_of_another_precision_are_edited_as_float32():
    model, images = toy_attribute_cdnet(), ToyAttributes().splits().test.tensors(limit=4)[0]
    plain = editing.reconstruct(model, images)
    assert torch.equal(editing.reconstruct(model, images.double()), plain)
