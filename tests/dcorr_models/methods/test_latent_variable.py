"""What methods without labels promise: codes, samples, and that any labels will do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from dcorr_models.admission import admit
from dcorr_models.data import GreySprites, LabelledImages, Splits
from dcorr_models.errors import UserError
from dcorr_models.experiment import load_run, train
from dcorr_models.methods import BetaVAE, LatentVariable
from dcorr_models.methods.base import Codes
from dcorr_models.training.fit import LoopSettings
from tests.dcorr_models.methods import latent_toys as toys
from tests.dcorr_models.toy import ToyAttributes, ToyImages


class Generator(LatentVariable):
    """No encoder; an image's grey level is the sum of c and s."""

    has_encoder = False

    def __init__(self) -> None:
        super().__init__()
        self.image_shape, self.latent_dim, self.nuisance_dim = (1, 2, 2), 2, 3
        self.gain = nn.Parameter(torch.ones(()))

    def stages(self) -> list:
        return []

    def render(self, c: Tensor, s: Tensor) -> Tensor:
        level = torch.sigmoid(self.gain * (c.sum(1) + s.sum(1)))
        return level[:, None, None, None].expand(-1, 1, 2, 2)


class Unlabelled(ToyImages):
    """No image of any split has a label."""

    def splits(self) -> Splits:
        parts = super().splits()
        return Splits(
            *(LabelledImages(part.images, torch.full_like(part.labels, -1)) for part in parts)
        )


def test_codes_are_the_residual_code_and_nothing_else():
    model, images = toys.toy(BetaVAE).eval(), toys.batch()["image"]
    codes = model.encode(images)
    assert codes.label.shape == (toys.BATCH, 0)
    assert torch.equal(codes.residual, model.posterior(images).mean)
    back = model(images)
    assert torch.equal(back, torch.sigmoid(model.decoder(codes.residual)))
    assert torch.equal(back, model.generate(codes.residual))


def test_decode_draws_every_image_with_one_s():
    model, c = Generator(), torch.tensor([[0.5, -1.0], [0.1, 0.2], [0.5, -1.0]])
    codes = Codes(c[:, :0], c)
    images = model.decode(codes)
    torch.manual_seed(9)
    assert torch.equal(images, model.decode(codes))
    assert torch.equal(images[1:2], model.decode(Codes(c[1:2, :0], c[1:2]))), "whatever the batch"
    assert torch.equal(images[0], images[2])
    fresh = model.generate(c)
    assert not torch.equal(fresh[0], fresh[2]), "generate draws an s for each"


def test_samples_are_those_of_their_generator():
    model = Generator()

    def seeded() -> torch.Generator:
        return torch.Generator().manual_seed(1)

    images = model.sample(5, generator=seeded())
    assert torch.equal(images, model.sample(5, generator=seeded()))
    generator = seeded()
    c = model.sample_codes(5, generator=generator)
    assert torch.equal(images, model.sample(5, codes=c, generator=generator))
    s = torch.zeros(5, 3)
    assert torch.equal(model.generate(c, s), model.render(c, s))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda m: m.generate(torch.zeros(4, 3)), r"c of shape \(4, 2\), got \(4, 3\)"),
        (lambda m: m.generate(torch.zeros(4, 2), torch.zeros(3, 3)), r"s of shape \(4, 3\)"),
        (lambda m: m.sample(3, codes=torch.zeros(4, 2)), r"codes of shape \(3, 2\)"),
        (lambda m: m.encode(torch.zeros(1, 1, 2, 2)), "has no encoder"),
    ],
)
def test_wrong_codes_are_refused(call, said):
    with pytest.raises(UserError, match=said):
        call(Generator())


@pytest.mark.parametrize("data", [Unlabelled(), ToyAttributes(), ToyImages()])
def test_any_labels_will_do(tmp_path: Path, data):
    model = toys.toy(BetaVAE, steps=14)
    seen: list[Tensor] = []
    model.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    fabric, loop = Fabric(accelerator="cpu", devices=1), LoopSettings(progress=False)
    train(model, data, tmp_path / "run", fabric=fabric, loop=loop)
    # two of the rehearsal; then an epoch of 12 batches, in which every image comes once
    epoch = torch.cat(seen[2:14])
    assert len(torch.unique(epoch.flatten(1), dim=0)) == 96
    assert (tmp_path / "run" / "weights.safetensors").exists()


def test_a_finished_run_is_read_back(tmp_path: Path):

    data = GreySprites(size=32, scales=1, orientations=1, positions=8)
    model = BetaVAE(image_shape=(1, 32, 32), latent_dim=4, steps=1, batch_size=8)
    fabric, loop = Fabric(accelerator="cpu", devices=1), LoopSettings(progress=False)
    train(model, data, tmp_path, fabric=fabric, loop=loop)
    _, again, _ = load_run(tmp_path)
    images = data.splits().test.tensors(4)[0]
    assert torch.equal(again(images), model(images))


def test_too_large_batches_speak_of_images():
    data = Unlabelled()
    model = toys.toy(BetaVAE, batch_size=97)
    with pytest.raises(UserError, match="batches of 97 but the training split has 96 images"):
        admit(model, data, data.splits(), model.stages(), processes=1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"encoder": nn.Flatten()}, r"the encoder \(means\) must return shape \(2, 3\)"),
        ({"decoder": nn.Linear(3, 5)}, "the decoder must return shape"),
        ({"decoder": nn.Linear(4, 5)}, "the decoder fails"),
    ],
)
def test_networks_that_do_not_fit_are_named(options, said):
    data, model = ToyImages(), toys.toy(BetaVAE, **options)
    with pytest.raises(UserError, match=said):
        admit(model, data, data.splits(), [], processes=1)
