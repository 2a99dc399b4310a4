"""InfoGAN: a GAN whose critic can read the codes that its generator was given.

Chen et al. 2016, "InfoGAN: interpretable representation learning by information maximizing
generative adversarial nets" (arXiv 1606.03657), at the networks of ID-GAN, as its rival. Departures
are listed in `docs/methods/id_gan.md`.
"""

from __future__ import annotations

from torch import Tensor, nn

from dcorr_models.errors import UserError
from dcorr_models.methods.checks import check_at_least, check_separate
from dcorr_models.methods.id_gan import code_cost
from dcorr_models.methods.latent_gan import (
    SPRITES,
    GanSettings,
    LatentGAN,
    LatentGANStage,
    to_generated,
)
from dcorr_models.methods.latent_variable import Gaussian
from dcorr_models.nets.id_gan import CodeReader, Critic
from dcorr_models.training.stage import Stage

__all__ = ["InfoGAN", "InformationStage"]


class InfoGAN(LatentGAN):
    """InfoGAN with continuous codes c ~ N(0, I).

    Q reads c from the critic's features of an image, as an independent Gaussian of each dimension.
    Generator, critic and Q all minimise λ · -log Q(c | G(s, c)), beside their own costs.

    Args:
        image_shape: channels, height and width of the images, which lie in [0, 1].
        latent_dim: size of c.
        nuisance_dim: size of s.
        information_weight: λ.
        fixed_deviation: Q's standard deviations are 1, as in Chen et al.'s code; otherwise learned.
        gan: networks and training of generator and critic; Q learns at the critic's rate.
        generator: your own generator, called with (s, c), giving images in [-1, 1].
        discriminator: your own discriminator of such images, giving a tuple: logits (N,), features
            (N, F).
        reader: your own Q, features to (N, 2 · latent_dim): means, then log-variances; needed
            beside a discriminator of your own.
    """

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] = (1, 64, 64),
        latent_dim: int = 10,
        nuisance_dim: int = 0,
        information_weight: float = 0.1,
        fixed_deviation: bool = False,
        gan: GanSettings = SPRITES,
        generator: nn.Module | None = None,
        discriminator: nn.Module | None = None,
        reader: nn.Module | None = None,
    ) -> None:
        super().__init__()
        check_at_least(0, information_weight=information_weight)
        self.image_shape = image_shape
        self.latent_dim, self.nuisance_dim = latent_dim, nuisance_dim
        self.information_weight, self.fixed_deviation = information_weight, fixed_deviation
        if gan.bottleneck_nats:
            raise UserError(
                "InfoGAN reads c from the critic's features, which a bottleneck makes noisy: set "
                "--method.gan.bottleneck_nats to 0"
            )
        self.make_players(gan, generator, discriminator)
        if reader is None:
            reader = CodeReader(self._features(), latent_dim)
        check_separate(self.generator, self.discriminator, reader)
        self.reader = reader

    def stages(self) -> list[Stage]:
        """One: generator, critic and Q."""
        return [InformationStage(self)]

    def posterior(self, images: Tensor) -> Gaussian:
        """(N, C, H, W) images in [0, 1] to Q(c | x)."""
        return self.as_gaussian(self.reader(self.discriminator(to_generated(images))[1]))

    def as_gaussian(self, output: Tensor) -> Gaussian:
        """Q's output, (N, 2 · latent_dim); log-variances 0 where they are not learned."""
        mean, logvar = output.chunk(2, dim=1)
        return Gaussian(mean, 0 * logvar if self.fixed_deviation else logvar)

    def _features(self) -> int:
        if isinstance(self.discriminator, Critic):
            return self.discriminator.logit.in_features
        raise UserError(
            "a discriminator of your own needs a reader of your own: (N, F) of its features to "
            f"(N, {2 * self.latent_dim}), means and log-variances of c"
        )


class InformationStage(LatentGANStage):
    """The step of `LatentGANStage`, with λ · -log Q(c | G(s, c)) in both players' losses.

    The critic's update moves Q and the features that it reads; the generator's moves G alone.
    """

    def __init__(self, model: InfoGAN) -> None:
        weight = model.information_weight
        super().__init__(
            model,
            "info_gan",
            weights={"information": weight, "reading": weight},
            networks={"reader": model.reader},
        )
        self.info_gan = model

    def lessons(self, judged: tuple[Tensor, ...], c: Tensor) -> dict[str, Tensor]:
        """What Q gets wrong, for the critic and Q."""
        return {"reading": self._cost(judged, c)}

    def wishes(self, fakes: Tensor, judged: tuple[Tensor, ...], c: Tensor) -> dict[str, Tensor]:
        """What Q gets wrong, for the generator."""
        return {"information": self._cost(judged, c)}

    def _cost(self, judged: tuple[Tensor, ...], c: Tensor) -> Tensor:
        output = self.networks["reader"](judged[1]).to(c.dtype)
        return code_cost(c, self.info_gan.as_gaussian(output))
