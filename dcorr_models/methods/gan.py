"""GAN: the generator and critic of ID-GAN on noise alone, as its rival.

Goodfellow et al. 2014; networks, R1 penalty and averaged generator of Mescheder, Geiger and Nowozin
2018, as in ID-GAN's published code.
"""

from __future__ import annotations

from torch import nn

from dcorr_models.methods.latent_gan import SPRITES, GanSettings, LatentGAN

__all__ = ["GAN"]


class GAN(LatentGAN):
    """GAN of noise c ~ N(0, I), without an encoder.

    Args:
        image_shape: channels, height and width of the images, which lie in [0, 1].
        latent_dim: size of the noise: ID-GAN's paper takes 10 for sprites and 256 elsewhere.
        gan: networks and training.
        generator: your own generator, called with (s, c), s without columns, giving images in
            [-1, 1].
        discriminator: your own discriminator of such images, giving a tuple: logits (N,), and
            with `gan.bottleneck_nats` features (N, F) and divergence (N,).
    """

    has_encoder = False

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] = (1, 64, 64),
        latent_dim: int = 10,
        gan: GanSettings = SPRITES,
        generator: nn.Module | None = None,
        discriminator: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.image_shape, self.latent_dim = image_shape, latent_dim
        self.make_players(gan, generator, discriminator)
