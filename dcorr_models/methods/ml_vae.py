"""ML-VAE: a variational auto-encoder whose class code is inferred from a group of images.

Bouchacourt, Tomioka and Nowozin 2018, "Multi-level variational autoencoder: learning disentangled
representations from grouped observations" (arXiv 1705.08841), as a rival of LORD. In the words of
this package, their content (shared by a group) is the class code, their style the content code.
Every departure is listed in `docs/methods/ml_vae.md`.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Adam

from dcorr_models.methods.base import Codes
from dcorr_models.methods.checks import (
    check_at_least,
    check_betas,
    check_choice,
    check_groups,
    check_separate,
)
from dcorr_models.methods.class_content import ClassContent
from dcorr_models.methods.reconstruction import Reconstruction, ReconstructionName, error_of
from dcorr_models.methods.vae_gan_stage import gaussian_kl
from dcorr_models.nets.class_content import RivalArchitecture, lord_encoders, lord_generator
from dcorr_models.nets.lord import ARCHITECTURES
from dcorr_models.nets.ml_vae import DenseDecoder, DenseEncoder
from dcorr_models.training.optimizers import parameters_of
from dcorr_models.training.stage import Batch, Stage, weighted_sum

__all__ = ["MLVAE", "GroupStage", "gaussian_nll", "group_posterior"]


class MLVAE(ClassContent):
    """ML-VAE (Bouchacourt et al. 2018), with the settings of the official code for MNIST.

    A batch holds groups of images of one class. Each image gives a Gaussian for its class code and
    one for its content code; the class code of a group has the normalised product of its images'
    Gaussians. The loss is the negative evidence bound of a group, averaged over the groups.

    Args:
        architecture: `published` (dense layers, any image), or LORD's networks of one size:
            `lord64`, `lord128`, `sprites_small` (32x32), for comparisons at equal networks.
        image_shape: channels, height and width of the images, whose values lie in [0, 1].
        num_labels: all classes of the data.
        class_dim: size of the class code.
        content_dim: size of the content code.
        class_noise: the decoder is given one draw of the class code for each image of a group,
            `per_image`, as in the official code, or one for all of them, `per_group`.
        kl_weight: weight of both KL divergences; 1 is the evidence bound.
        reconstruction: `published`: Gaussian likelihood with learned variances; `l1`, `mse`, or
            features of `vgg16` or `efficientnet_lite0`; or your own module, called with (x̂, x),
            giving a scalar.
        reconstruction_weights: a file with the weights of VGG-16 or EfficientNet-lite0, or their
            name; by default torchvision's file, or the package's own.
        reconstruction_weight: of that error, for each image; by default 1 for `published` and the
            number of an image's values for the others, which makes a mean over them a sum.
        images_per_class: images of a group.
        batch_size: images of an update, a multiple of `images_per_class`.
        steps: updates.
        lr: learning rate of Adam.
        betas: Adam's decay rates of the two moments.
        encoder: your own encoder, images to (N, 2 · class_dim + 2 · content_dim): mean and
            log-variance of the class code, then of the content code.
        decoder: your own decoder, called with (class code, content code), giving images, with C
            channels, or with 2C: then the second half is the log-variances of the first.
    """

    probes_read_samples = True

    def __init__(
        self,
        *,
        architecture: RivalArchitecture = "published",
        image_shape: tuple[int, int, int] = (1, 28, 28),
        num_labels: int = 10,
        class_dim: int = 10,
        content_dim: int = 10,
        class_noise: Literal["per_image", "per_group"] = "per_image",
        kl_weight: float = 1.0,
        reconstruction: ReconstructionName | nn.Module = "published",
        reconstruction_weights: str | None = None,
        reconstruction_weight: float | None = None,
        images_per_class: int = 32,
        batch_size: int = 256,
        steps: int = 93_600,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        check_choice(
            architecture=(architecture, ("published", *ARCHITECTURES)),
            class_noise=(class_noise, ("per_image", "per_group")),
        )
        check_at_least(1, num_labels=num_labels, class_dim=class_dim, content_dim=content_dim)
        check_at_least(0, kl_weight=kl_weight, steps=steps, lr=lr)
        check_groups(batch_size, images_per_class)
        check_betas(betas)
        self.reconstruction = Reconstruction(reconstruction, reconstruction_weights, published=None)
        if reconstruction_weight is None:
            own = self.reconstruction.choice is None
            reconstruction_weight = 1.0 if own else float(math.prod(image_shape))
        check_at_least(0, reconstruction_weight=reconstruction_weight)
        self.image_shape, self.num_labels = image_shape, num_labels
        self.class_dim, self.content_dim = class_dim, content_dim
        # A decoder of the user's own may give any range.
        self.value_range = (0.0, 1.0) if decoder is None else None
        self._make_networks(architecture, encoder, decoder)
        self.step_settings = StepSettings(
            weights={
                "reconstruction": reconstruction_weight,
                "kl_class": kl_weight,
                "kl_content": kl_weight,
            },
            images_per_class=images_per_class,
            one_draw=class_noise == "per_group",
            steps=steps,
            batch_size=batch_size,
            lr=lr,
            betas=(betas[0], betas[1]),
        )

    def _make_networks(
        self, architecture: str, encoder: nn.Module | None, decoder: nn.Module | None
    ) -> None:
        shape, class_dim, content_dim = self.image_shape, self.class_dim, self.content_dim
        # `is None`, not truth: an empty nn.Sequential is false, and still the user's choice.
        if encoder is None:
            encoder = (
                DenseEncoder(shape, 2 * (class_dim + content_dim))
                if architecture == "published"
                else lord_encoders(shape, architecture, 2 * class_dim, 2 * content_dim)
            )
        if decoder is None:
            learned = self.reconstruction.choice is None
            decoder = (
                DenseDecoder(shape, class_dim + content_dim)
                if architecture == "published"
                else lord_generator(
                    shape, architecture, class_dim, content_dim, log_variance=learned
                )
            )
        check_separate(encoder, decoder)
        self.encoder, self.decoder = encoder, decoder

    def stages(self) -> list[Stage]:
        """One: encoder and decoder together."""
        return [GroupStage(self)]

    def posteriors(self, numbers: Tensor) -> list[Tensor]:
        """The encoder's output, divided: mean and log-variance of class, then of content code."""
        ends = (self.class_dim, 2 * self.class_dim, 2 * self.class_dim + self.content_dim)
        return list(numbers.tensor_split(ends, dim=1))

    def encode(self, images: Tensor) -> Codes:
        """Images to the means of both codes, each image a group of its own."""
        class_mean, _, content_mean, _ = self.posteriors(self.encoder(images))
        return Codes(class_mean, content_mean)

    def class_code_of(self, images: Tensor) -> Tensor:
        """(N, C, H, W) images of one class to the class code (1, class_dim) of all of them."""
        class_mean, class_log_variance, *_ = self.posteriors(self.encoder(images))
        return group_posterior(class_mean, class_log_variance, len(images))[0]

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the content code."""
        *_, mean, log_variance = self.posteriors(self.encoder(images))
        return mean, log_variance

    def decode(self, codes: Codes) -> Tensor:
        """Class codes and content codes to images."""
        output: Tensor = self.decoder(codes.label, codes.residual)
        return output[:, : self.image_shape[0]]


class StepSettings(NamedTuple):
    """What one update needs to know; see the arguments of `MLVAE`."""

    weights: dict[str, float]
    images_per_class: int
    one_draw: bool
    steps: int
    batch_size: int
    lr: float
    betas: tuple[float, float]


class GroupStage(Stage):
    """Encoder and decoder learn together from groups of images."""

    def __init__(self, model: MLVAE) -> None:
        settings = model.step_settings
        learning = parameters_of(model.encoder, model.decoder)
        loss = model.reconstruction.loss()
        super().__init__(
            "groups",
            networks={"encoder": model.encoder, "decoder": model.decoder},
            optimizers={"autoencoder": Adam(learning, lr=settings.lr, betas=settings.betas)},
            fixed={} if loss is None else {"reconstruction": loss},
            max_steps=settings.steps,
            batch_size=settings.batch_size,
            images_per_class=settings.images_per_class,
        )
        self.model, self.settings = model, settings

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One update of encoder and decoder."""
        x, size = batch["image"], self.settings.images_per_class
        own_mean, own_log_variance, content_mean, content_log_variance = self.model.posteriors(
            self.networks["encoder"](x)
        )
        mean, log_variance = group_posterior(own_mean, own_log_variance, size)
        output = self.networks["decoder"](
            self._draw_class(mean, log_variance), draw(content_mean, content_log_variance)
        )
        terms = {
            # Sums over a group, as the bound of a group has them.
            "reconstruction": size * self._reconstruction(output, x),
            "kl_content": size * gaussian_kl(content_mean, content_log_variance).sum(1).mean(),
            "kl_class": gaussian_kl(mean, log_variance).sum(1).mean(),
        }
        self.update("autoencoder", weighted_sum(terms, self.settings.weights))
        logs = {f"loss/{name}": term.detach() for name, term in terms.items()}
        images = output[:, : x.shape[1]].detach()
        # of no player, but comparable between methods
        return {**logs, "loss/pixel": (images - x).square().mean()}

    def _draw_class(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        """The groups' class codes, drawn, a row for each image."""
        size = self.settings.images_per_class
        if self.settings.one_draw:
            return draw(mean, log_variance).repeat_interleave(size, dim=0)
        return draw(
            mean.repeat_interleave(size, dim=0), log_variance.repeat_interleave(size, dim=0)
        )

    def _reconstruction(self, output: Tensor, x: Tensor) -> Tensor:
        """The error of one image, averaged over the batch."""
        channels = x.shape[1]
        images = output[:, :channels]
        if "reconstruction" in self.fixed:
            return error_of(self, images, x)
        learned = output.shape[1] > channels
        log_variance = output[:, channels:] if learned else torch.zeros_like(images)
        return gaussian_nll(images, log_variance, x).flatten(1).sum(1).mean()


def group_posterior(
    mean: Tensor, log_variance: Tensor, images_per_class: int
) -> tuple[Tensor, Tensor]:
    r"""The normalised product of the Gaussians of each group.

    .. math::
        \sigma_g^{-2} = \sum_{i \in g} \sigma_i^{-2}, \qquad
        \mu_g = \sigma_g^2 \sum_{i \in g} \sigma_i^{-2} \mu_i

    Args:
        mean: (N, K), the images of a group in consecutive rows.
        log_variance: (N, K).
        images_per_class: images of a group, which divides N.

    Returns:
        Mean and log-variance, (N / images_per_class, K) each.

    Reference:
        Bouchacourt et al. 2018, the product of Normal densities.

    Example:
        >>> mean = torch.tensor([[0.0], [3.0]])
        >>> mu, log_variance = group_posterior(mean, torch.tensor([[0.0], [-math.log(2)]]), 2)
        >>> round(mu.item(), 4), round(log_variance.exp().item(), 4)
        (2.0, 0.3333)
    """
    shape = (-1, images_per_class, mean.shape[1])
    log_precision = -log_variance.reshape(shape)  # (G, M, K)
    # Shares of the precision, by softmax: no variance is divided by another.
    group_mean = (log_precision.softmax(dim=1) * mean.reshape(shape)).sum(dim=1)
    return group_mean, -log_precision.logsumexp(dim=1)


def gaussian_nll(mean: Tensor, log_variance: Tensor, x: Tensor) -> Tensor:
    """Element-wise -log N(x; mean, exp(log_variance)) = ½ (log 2π + lv + (x - μ)² e^-lv).

    Example:
        >>> zero = torch.tensor(0.0)
        >>> round(gaussian_nll(zero, zero, torch.tensor(1.0)).item(), 4)
        1.4189
    """
    return 0.5 * (
        math.log(2 * math.pi) + log_variance + (x - mean).square() * (-log_variance).exp()
    )


def draw(mean: Tensor, log_variance: Tensor) -> Tensor:
    """A sample of N(mean, exp(log_variance)) for each element, with gradient."""
    return mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
