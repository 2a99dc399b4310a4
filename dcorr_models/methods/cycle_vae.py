"""Cycle-VAE: codes that stay what they are when images are drawn from them and encoded again.

Jha, Anand, Singh and Veeravasarapu 2018, "Disentangling factors of variation with cycle-consistent
variational auto-encoders" (arXiv 1804.10469), as a rival of LORD. In the words of this package,
their specified factors are the class code, their unspecified ones (style) the content code. Every
departure is listed in `docs/methods/cycle_vae.md`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import MultiStepLR

from dcorr_models.errors import UserError
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
from dcorr_models.nets.cycle_vae import (
    SIDE,
    InstanceNormDecoder,
    InstanceNormEncoder,
    init_published,
)
from dcorr_models.nets.lord import ARCHITECTURES
from dcorr_models.training.optimizers import parameters_of
from dcorr_models.training.stage import Batch, Stage, weighted_sum

__all__ = ["CycleStage", "CycleVAE"]


class CycleVAE(ClassContent):
    """Cycle-VAE (Jha et al. 2018), with the settings of the authors' code for MNIST.

    A batch holds pairs of images of one class. In the forward cycle each image is drawn from its
    own content code and the class code of its partner; in the reverse cycle one drawn content code
    is put into two classes, and the two images must be encoded to the same content code.

    Args:
        architecture: `published` (28x28), or LORD's networks of one size: `lord64`, `lord128`,
            `sprites_small` (32x32), for comparisons at equal networks.
        image_shape: channels, height and width of the images, whose values lie in [0, 1].
        num_labels: all classes of the data.
        class_dim: size of the class code.
        content_dim: size of the content code.
        reconstruction: `published`, the mean squared error; `l1`, `mse`, or features of `vgg16` or
            `efficientnet_lite0`; or your own module, called with (x̂, x), giving a scalar.
        reconstruction_weights: a file with the weights of VGG-16 or EfficientNet-lite0, or their
            name; by default torchvision's file, or the package's own.
        reconstruction_weight: of that error, for each image of a pair.
        kl_weight: of the KL divergence, divided by the number of an image's values, for each image
            of a pair.
        reverse_weight: of the mean absolute difference of the two codes in the reverse cycle.
        batch_size: images of an update: two for each pair of the authors' code.
        steps: updates of each cycle.
        lr: learning rate of both optimizers, each of which is Adam.
        reverse_lr: rate of the reverse cycle's, where it is not to be the same. `reverse_weight`
            alone hardly slows that cycle down: Adam's updates do not grow with the loss.
        betas: Adam's decay rates of the two moments.
        lr_milestones: updates after which the rate is multiplied by `lr_decay`.
        lr_decay: factor at each milestone.
        encoder: your own encoder, images to (N, class_dim + 2 · content_dim): the class code, then
            mean and log-variance of the content code. Each image is to be encoded by itself:
            no BatchNorm.
        decoder: your own decoder, called with (class code, content code), giving images.
    """

    probes_read_samples = True

    def __init__(
        self,
        *,
        architecture: RivalArchitecture = "published",
        image_shape: tuple[int, int, int] = (1, 28, 28),
        num_labels: int = 10,
        class_dim: int = 16,
        content_dim: int = 16,
        reconstruction: ReconstructionName | nn.Module = "published",
        reconstruction_weights: str | None = None,
        reconstruction_weight: float = 2.0,
        kl_weight: float = 3.0,
        reverse_weight: float = 10.0,
        batch_size: int = 128,
        steps: int = 93_700,
        lr: float = 1e-4,
        reverse_lr: float | None = None,
        betas: tuple[float, float] = (0.9, 0.999),
        lr_milestones: tuple[int, ...] = (74_960,),
        lr_decay: float = 0.1,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        check_choice(architecture=(architecture, ("published", *ARCHITECTURES)))
        check_at_least(1, num_labels=num_labels, class_dim=class_dim, content_dim=content_dim)
        check_at_least(
            0,
            reconstruction_weight=reconstruction_weight,
            kl_weight=kl_weight,
            reverse_weight=reverse_weight,
            steps=steps,
            lr=lr,
            reverse_lr=lr if reverse_lr is None else reverse_lr,
            lr_decay=lr_decay,
        )
        check_groups(batch_size, IMAGES_OF_A_PAIR)
        check_at_least(2 * IMAGES_OF_A_PAIR, batch_size=batch_size)
        check_betas(betas)
        self.reconstruction = Reconstruction(
            reconstruction, reconstruction_weights, published="mse"
        )
        self.image_shape, self.num_labels = image_shape, num_labels
        self.class_dim, self.content_dim = class_dim, content_dim
        # A decoder of the user's own may give any range.
        self.value_range = (0.0, 1.0) if decoder is None else None
        self._make_networks(architecture, encoder, decoder)
        self.step_settings = StepSettings(
            weights={"reconstruction": reconstruction_weight, "kl": kl_weight},
            reverse_weight=reverse_weight,
            steps=steps,
            batch_size=batch_size,
            lrs={"autoencoder": lr, "reverse": lr if reverse_lr is None else reverse_lr},
            betas=(betas[0], betas[1]),
            lr_milestones=tuple(lr_milestones),
            lr_decay=lr_decay,
        )

    def _make_networks(
        self, architecture: str, encoder: nn.Module | None, decoder: nn.Module | None
    ) -> None:
        shape, class_dim, content_dim = self.image_shape, self.class_dim, self.content_dim
        published = architecture == "published"
        if published and None in (encoder, decoder) and shape[1:] != (SIDE, SIDE):
            raise UserError(
                f"image_shape {tuple(shape)} does not fit architecture 'published': its images "
                f"have {SIDE} x {SIDE} pixels; take one of {', '.join(ARCHITECTURES)}"
            )
        # `is None`, not truth: an empty nn.Sequential is false, and still the user's choice.
        if encoder is None:
            encoder = (
                InstanceNormEncoder(shape[0], class_dim + 2 * content_dim)
                if published
                else lord_encoders(shape, architecture, class_dim, 2 * content_dim)
            )
            if published:
                init_published(encoder)
        if decoder is None:
            decoder = (
                InstanceNormDecoder(shape[0], class_dim, content_dim)
                if published
                else lord_generator(shape, architecture, class_dim, content_dim)
            )
            if published:
                init_published(decoder)
        check_separate(encoder, decoder)
        self.encoder, self.decoder = encoder, decoder

    def stages(self) -> list[Stage]:
        """One: both cycles in every update."""
        return [CycleStage(self)]

    def codes(self, numbers: Tensor) -> list[Tensor]:
        """The encoder's output, divided: class code, mean and log-variance of the content code."""
        return list(
            numbers.tensor_split((self.class_dim, self.class_dim + self.content_dim), dim=1)
        )

    def encode(self, images: Tensor) -> Codes:
        """Images to the class code and the mean of the content code."""
        class_code, mean, _ = self.codes(self.encoder(images))
        return Codes(class_code, mean)

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the content code."""
        _, mean, log_variance = self.codes(self.encoder(images))
        return mean, log_variance

    def decode(self, codes: Codes) -> Tensor:
        """Class codes and content codes to images."""
        images: Tensor = self.decoder(codes.label, codes.residual)
        return images


IMAGES_OF_A_PAIR = 2


class StepSettings(NamedTuple):
    """What one update needs to know; see the arguments of `CycleVAE`."""

    weights: dict[str, float]
    reverse_weight: float
    steps: int
    batch_size: int
    lrs: dict[str, float]
    betas: tuple[float, float]
    lr_milestones: tuple[int, ...]
    lr_decay: float


class CycleStage(Stage):
    """The forward cycle trains encoder and decoder, then the reverse cycle the encoder alone."""

    def __init__(self, model: CycleVAE) -> None:
        settings = model.step_settings
        learning = {
            "autoencoder": parameters_of(model.encoder, model.decoder),
            "reverse": parameters_of(model.encoder),
        }
        optimizers = {
            name: Adam(parameters, lr=settings.lrs[name], betas=settings.betas)
            for name, parameters in learning.items()
        }
        loss = model.reconstruction.loss()
        assert loss is not None
        super().__init__(
            "cycles",
            networks={"encoder": model.encoder, "decoder": model.decoder},
            optimizers=optimizers,
            fixed={"reconstruction": loss},
            schedulers={
                name: MultiStepLR(optimizer, list(settings.lr_milestones), gamma=settings.lr_decay)
                for name, optimizer in optimizers.items()
            },
            max_steps=settings.steps,
            batch_size=settings.batch_size,
            images_per_class=IMAGES_OF_A_PAIR,
        )
        self.model, self.settings = model, settings

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One update by each cycle."""
        x = batch["image"]
        logs = self._forward_cycle(x)
        reverse = self._reverse_cycle(x)
        return {
            f"loss/{name}": term.detach() for name, term in {**logs, "reverse": reverse}.items()
        }

    def _forward_cycle(self, x: Tensor) -> dict[str, Tensor]:
        class_code, mean, log_variance = self.model.codes(self.networks["encoder"](x))
        content = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        x_hat = self.networks["decoder"](partners(class_code), content)
        # Means over the batch, twice: the published loss adds the means of both images of a pair.
        terms = {
            "reconstruction": 2 * error_of(self, x_hat, x),
            "kl": 2 * gaussian_kl(mean, log_variance).sum(1).mean() / x[0].numel(),
        }
        self.update("autoencoder", weighted_sum(terms, self.settings.weights))
        # of no player, but comparable between methods
        return {**terms, "pixel": F.mse_loss(x_hat.detach(), x.to(x_hat.dtype))}

    def _reverse_cycle(self, x: Tensor) -> Tensor:
        """One drawn content code in the classes of a pair and of the pair before it."""
        encoder, decoder = self.networks["encoder"], self.networks["decoder"]
        # The images are constants for the encoder: the class codes are cut off, as published, and
        # the decoder does not learn here.
        with torch.no_grad():
            class_code = self.model.codes(encoder(x[::IMAGES_OF_A_PAIR]))[0]
            content = torch.randn(
                len(class_code), self.model.content_dim, device=x.device, dtype=class_code.dtype
            )
            both = torch.cat([class_code, class_code.roll(1, dims=0)])
            images = decoder(both, content.repeat(2, 1))
        first, second = self.model.codes(encoder(images))[1].chunk(2)
        loss = F.l1_loss(first, second)
        self.update("reverse", self.settings.reverse_weight * loss)
        return loss


def partners(rows: Tensor) -> Tensor:
    """The rows of each consecutive pair exchanged.

    Example:
        >>> partners(torch.tensor([[1], [2], [3], [4]])).flatten().tolist()
        [2, 1, 4, 3]
    """
    return rows.reshape(-1, IMAGES_OF_A_PAIR, rows.shape[1]).flip(1).reshape(rows.shape)
