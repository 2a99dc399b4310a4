"""Toy forms of ID-GAN, its ablations and rivals, on the 12x12 images of `ToyImages`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dcorr_models.methods.adversarial_vae import AdversarialVAE
from dcorr_models.methods.beta_vae import BetaVAE
from dcorr_models.methods.gan import GAN
from dcorr_models.methods.id_gan import IDGAN
from dcorr_models.methods.info_gan import InfoGAN
from dcorr_models.methods.latent_cgan import LatentCGAN
from dcorr_models.methods.latent_gan import GanSettings, LatentGAN
from tests.dcorr_models.methods import conditional_toys

CODES, NUISANCE, BATCH = 3, 2, 8
SHAPE = (1, 12, 12)
FEATURES = 6


class Drawer(nn.Module):
    """(s, c) to an image in [-1, 1]."""

    def __init__(self, codes: int, side: int = 12) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(codes, 16), nn.Tanh(), nn.Linear(16, side * side), nn.Tanh()
        )
        self.side = side

    def forward(self, s: Tensor, c: Tensor) -> Tensor:
        return self.net(torch.cat([s, c], dim=1)).reshape(-1, 1, self.side, self.side)


class Critic(nn.Module):
    """Images, and codes or not, to logits, features and a divergence of the features."""

    def __init__(self, codes: int = 0) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(144 + codes, FEATURES), nn.Tanh())
        self.head = nn.Linear(FEATURES, 1)

    def forward(self, images: Tensor, codes: Tensor | None = None) -> tuple[Tensor, ...]:
        flat = images.flatten(1)
        if codes is not None:
            flat = torch.cat([flat, codes], dim=1)
        features = self.trunk(flat)
        return self.head(features)[:, 0], features, features.square().mean(dim=1)


def vae(side: int = 12, **options) -> BetaVAE:
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(side * side, 2 * CODES))
    decoder = nn.Sequential(nn.Linear(CODES, side * side), nn.Unflatten(1, (1, side, side)))
    settings = {
        "image_shape": (1, side, side), "latent_dim": CODES, "batch_size": BATCH, "steps": 10,
        "lr": 1e-2, "encoder": encoder, "decoder": decoder,
    }  # fmt: skip
    return BetaVAE(**(settings | options))


def gan_settings(**options) -> GanSettings:
    toy = {"steps": 10, "batch_size": BATCH, "generator_lr": 1e-2, "critic_lr": 1e-2}
    return GanSettings(**(toy | options))


def make(kind: type[LatentGAN], *, seed: int = 0, gan: dict | None = None, **options) -> LatentGAN:
    torch.manual_seed(seed)
    settings = {
        "image_shape": SHAPE, "latent_dim": CODES, "gan": gan_settings(**(gan or {})),
        "generator": Drawer(CODES if kind is GAN else CODES + NUISANCE),
        "discriminator": Critic(CODES if kind is LatentCGAN else 0),
    }  # fmt: skip
    if kind is not GAN:
        settings["nuisance_dim"] = NUISANCE
    if kind in (IDGAN, LatentCGAN):
        settings["vae"] = options.pop("vae", None) or vae()
    if kind is InfoGAN:
        settings["reader"] = nn.Linear(FEATURES, 2 * CODES)
    return kind(**(settings | options))


def gan(*, seed: int = 0, **gan) -> GAN:
    return make(GAN, seed=seed, gan=gan)


def info_gan(*, seed: int = 0, **options) -> InfoGAN:
    return make(InfoGAN, seed=seed, **options)


def id_gan(*, seed: int = 0, **options) -> IDGAN:
    return make(IDGAN, seed=seed, **({"distillation_weight": 0.1} | options))


def end_to_end(*, seed: int = 0, **options) -> IDGAN:
    return id_gan(seed=seed, end_to_end=True, **options)


def limited(*, seed: int = 0) -> IDGAN:
    return id_gan(seed=seed, gan={"bottleneck_nats": 0.1, "bottleneck_rate": 0.1, "flip": True})


def latent_cgan(*, seed: int = 0) -> LatentCGAN:
    return make(LatentCGAN, seed=seed)


def adversarial_vae(*, seed: int = 0, **options) -> AdversarialVAE:
    torch.manual_seed(seed)
    plain = vae()
    networks = {"encoder": plain.encoder, "decoder": plain.decoder, "discriminator": Critic()}
    settings = {
        "image_shape": SHAPE, "latent_dim": CODES, "batch_size": BATCH, "steps": 10, "lr": 1e-2,
        "critic_lr": 1e-2,
    }  # fmt: skip
    return AdversarialVAE(**(settings | networks | options))


ALL = {
    "gan": gan,
    "info_gan": info_gan,
    "id_gan": id_gan,
    "limited": limited,
    "end_to_end": end_to_end,
    "latent_cgan": latent_cgan,
    "adversarial_vae": adversarial_vae,
}


class LastStage:
    """A method whose last stage is its only one, as the helpers of `conditional_toys` want it."""

    def __init__(self, model) -> None:
        self.model = model

    def __getattr__(self, name: str):
        return getattr(self.model, name)

    def stages(self) -> list:
        return self.model.stages()[-1:]


def prepared(model, **options):
    return conditional_toys.prepared(LastStage(model), **options)
