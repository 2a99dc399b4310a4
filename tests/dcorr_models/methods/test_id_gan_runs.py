"""ID-GAN as a run: two stages into a folder, read back, and the encoder of another run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric

from dcorr_models.data import GreySprites
from dcorr_models.errors import CheckpointError, UserError
from dcorr_models.experiment import load_run, train
from dcorr_models.methods import (
    DIPVAE,
    IDGAN,
    BetaTCVAE,
    BetaVAE,
    DCovVAE,
    FactorVAE,
    GanSettings,
    LatentCGAN,
)
from dcorr_models.methods.posterior_gan import PosteriorStage
from dcorr_models.training.fit import LoopSettings

SMALL, LARGE = (1, 32, 32), (1, 64, 64)


def sprites(size: int) -> GreySprites:
    return GreySprites(size=size, scales=1, orientations=2, positions=4, keep=True)


def beta_vae(**options) -> BetaVAE:
    return BetaVAE(
        **({"image_shape": SMALL, "latent_dim": 3, "batch_size": 4, "steps": 2} | options)
    )


def run(method, folder: Path, size: int = 32, *, resume: bool = False):
    fabric = Fabric(accelerator="cpu", devices=1)
    loop = LoopSettings(progress=False, save_every=1)
    return train(method, sprites(size), folder, fabric=fabric, loop=loop, resume=resume)


def id_gan(kind: type = IDGAN, **options):
    gan = GanSettings(batch_size=4, steps=2, architecture="resnet", width=2)
    settings = {
        "image_shape": LARGE, "latent_dim": 3, "nuisance_dim": 2, "vae": beta_vae(), "gan": gan,
    }  # fmt: skip
    torch.manual_seed(0)
    return kind(**(settings | options))


@pytest.mark.filterwarnings("ignore:the encoder of this BetaVAE")
def test_both_stages_are_trained_and_a_run_is_read_back(tmp_path):
    method = run(id_gan(), tmp_path / "run", 64)
    assert {path.stem for path in (tmp_path / "run/checkpoints").iterdir()} == {"vae", "id_gan"}
    again = load_run(tmp_path / "run").method
    images = sprites(64).splits().test.tensors(3)[0]
    torch.testing.assert_close(again.encode(images).residual, method.encode(images).residual)
    torch.testing.assert_close(again(images), method(images))
    assert again.gan == method.gan


@pytest.mark.filterwarnings("ignore:the encoder of this BetaVAE")
def test_the_encoder_of_a_finished_run_takes_the_first_stages_place(tmp_path):
    encoder = run(beta_vae(steps=3), tmp_path / "vae").state_dict()
    start = str(tmp_path / "vae")
    for kind in (IDGAN, LatentCGAN):
        method = run(id_gan(kind, start_from=start), tmp_path / kind.__name__, 64)
        assert len(list((tmp_path / kind.__name__ / "checkpoints").iterdir())) == 1
        assert all(torch.equal(v, encoder[k]) for k, v in method.vae.state_dict().items())


def test_a_run_with_another_encoder_is_refused(tmp_path):
    run(beta_vae(), tmp_path / "vae")
    start, train_split = str(tmp_path / "vae"), sprites(32).splits().train
    for vae, latent_dim, message in (
        (beta_vae(image_shape=LARGE), 3, r"has image_shape \[1, 32, 32\], and .* is \(1, 64, 64\)"),
        (beta_vae(latent_dim=4), 4, "has latent_dim 3, and --method.vae.latent_dim is 4"),
    ):
        method = id_gan(vae=vae, latent_dim=latent_dim, start_from=start)
        with pytest.raises(UserError, match=message) as error:
            method.meet(train_split)
        assert "\n" not in str(error.value)
    wider = beta_vae(decoder=torch.nn.Linear(3, 5))
    with pytest.raises(CheckpointError, match="another method or architecture than BetaVAE"):
        id_gan(vae=wider, start_from=start).meet(train_split)


def test_a_run_of_another_method_is_refused_and_other_settings_are_told(tmp_path):
    run(beta_vae(), tmp_path / "vae")
    start, train_split = str(tmp_path / "vae"), sprites(32).splits().train
    other = FactorVAE(image_shape=SMALL, latent_dim=3)
    with pytest.raises(UserError, match=r"is a run of BetaVAE, and --method.vae is FactorVAE: set"):
        id_gan(vae=other, start_from=start).meet(train_split)
    with pytest.warns(UserWarning, match=r"was trained with beta 8.0 and not 2.5: this run's"):
        id_gan(vae=beta_vae(beta=2.5), start_from=start).meet(train_split)


class StopError(Exception):
    """Stands for a kill between two updates."""


@pytest.mark.filterwarnings("ignore:the encoder of this BetaVAE")
@pytest.mark.parametrize("fate", ["removed", "trained again"])
def test_a_resumed_run_goes_on_with_the_encoder_that_it_began_with(tmp_path, monkeypatch, fate):
    start = tmp_path / "vae"
    run(beta_vae(), start)
    whole = run(id_gan(start_from=str(start)), tmp_path / "whole", 64).state_dict()
    step = PosteriorStage.step

    def stopping(stage, batch):
        if stage.step_index == 1:
            raise StopError
        return step(stage, batch)

    with monkeypatch.context() as patch:
        patch.setattr(PosteriorStage, "step", stopping)
        with pytest.raises(StopError):
            run(id_gan(start_from=str(start)), tmp_path / "stopped", 64)
    shutil.rmtree(start)
    if fate == "trained again":
        torch.manual_seed(5)
        run(beta_vae(), start)
    resumed = run(id_gan(start_from=str(start)), tmp_path / "stopped", 64, resume=True)
    assert resumed.start_from == str(start)
    assert all(torch.equal(v, whole[k]) for k, v in resumed.state_dict().items())


def test_a_plain_network_as_vae_is_refused():
    with pytest.raises(UserError, match=r"got Linear: give a network of yours to one"):
        id_gan(vae=torch.nn.Linear(2, 2))


@pytest.mark.parametrize(("kind", "least"), [(DCovVAE, 4), (DIPVAE, 2), (BetaTCVAE, 2)])
def test_end_to_end_wants_as_many_images_as_the_penalty_needs(kind, least):
    vae = kind(image_shape=SMALL, latent_dim=3)
    gan = GanSettings(batch_size=least - 1)
    with pytest.raises(UserError, match=rf"{kind.__name__} needs {least} images or more"):
        IDGAN(image_shape=SMALL, latent_dim=3, vae=vae, gan=gan, end_to_end=True)


@pytest.mark.filterwarnings("ignore:the encoder of this BetaVAE")
def test_batches_of_one_image_are_admitted(tmp_path):
    gan = GanSettings(batch_size=1, steps=1, architecture="resnet", width=2)
    run(id_gan(gan=gan, vae=beta_vae(steps=0)), tmp_path / "run", 64)


@pytest.mark.parametrize("side", [48, 100])
def test_a_side_that_is_no_power_of_two_is_refused(side):
    with pytest.raises(UserError, match="power of two from 8 on") as error:
        id_gan(image_shape=(1, side, side), vae=beta_vae(image_shape=(1, side, side), **own(side)))
    assert "\n" not in str(error.value)


def own(side: int) -> dict:
    from tests.dcorr_models.methods.latent_gan_toys import vae

    plain = vae(side=side)
    return {"encoder": plain.encoder, "decoder": plain.decoder}
