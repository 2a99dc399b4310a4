"""The conditional GAN of ID-GAN's paper: its critic judges images together with their c.

Lee et al. 2020, section 5.3 and appendix A.2. How the critic is told of c is stated nowhere; here
by a projection, as in Miyato and Koyama 2018.
"""

from __future__ import annotations

from torch import nn

from dcorr_models.methods.latent_gan import SPRITES, GanSettings
from dcorr_models.methods.latent_variable import LatentVariable
from dcorr_models.methods.posterior_gan import Downsampling, PosteriorGAN, PosteriorStage
from dcorr_models.training.stage import Stage

__all__ = ["LatentCGAN"]


class LatentCGAN(PosteriorGAN):
    """cGAN on codes: as `IDGAN` in two stages, but the critic is told c, and no encoder is asked.

    Real pairs are x of the data and c of q(c | x), generated ones that c and G(s, c).

    Args:
        image_shape: channels, height and width of the images, which lie in [0, 1].
        latent_dim: size of c, that of the encoder.
        nuisance_dim: size of s.
        vae: the method of the first stage; see `IDGAN`.
        start_from: folder of a finished run of that method; see `IDGAN`.
        downsampling: of larger images for the encoder: `bilinear` or `average`.
        gan: networks and training of generator and critic.
        generator: your own generator, called with (s, c), giving images in [-1, 1].
        discriminator: your own discriminator, called with (images, c), giving a tuple: logits (N,),
            and with `gan.bottleneck_nats` features (N, F) and divergence (N,).
    """

    critic_reads_codes = True

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] = (1, 64, 64),
        latent_dim: int = 10,
        nuisance_dim: int = 0,
        vae: LatentVariable | None = None,
        start_from: str | None = None,
        downsampling: Downsampling = "bilinear",
        gan: GanSettings = SPRITES,
        generator: nn.Module | None = None,
        discriminator: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.latent_dim, self.nuisance_dim = latent_dim, nuisance_dim
        self.set_encoder(
            vae, start_from=start_from, codes_from="aggregated", downsampling=downsampling
        )
        self.make_players(gan, generator, discriminator)

    def stages(self) -> list[Stage]:
        """The encoder's, then generator and critic."""
        return [*self.encoder_stages(), PosteriorStage(self, "latent_cgan")]
