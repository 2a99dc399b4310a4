"""DrNet: a content code in which a critic cannot see from which class its image comes.

Denton and Birodkar 2017, "Unsupervised learning of disentangled representations from video" (arXiv
1705.10915), as a rival of LORD: a class takes the place of a video clip. In the words of this
package, their content (constant in a clip) is the class code, their pose the content code. Every
departure is listed in `docs/methods/drnet.md`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam

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
from dcorr_models.nets.class_content import RivalArchitecture, lord_encoders, lord_generator
from dcorr_models.nets.drnet import (
    SIDE,
    DcganDecoder,
    DcganEncoder,
    SceneDiscriminator,
    skip_shapes,
)
from dcorr_models.nets.initialisation import init_dcgan
from dcorr_models.nets.lord import ARCHITECTURES
from dcorr_models.training.optimizers import parameters_of
from dcorr_models.training.passes import Passes
from dcorr_models.training.stage import Batch, Stage, frozen, weighted_sum

__all__ = ["DrNet", "DrNetStage"]


class DrNet(ClassContent):
    """DrNet (Denton and Birodkar 2017), with the settings of the authors' code.

    Of four images x1 to x4 of a class, x3 is drawn from the class code of x1 and the content code
    of x3; the class code of x1 is pulled to that of x2; and the scene discriminator, which learns
    whether two content codes come from one class, is to be undecided about those of x3 and x4.

    Args:
        architecture: `published` (64x64), or LORD's networks of one size: `lord64`, `lord128`,
            `sprites_small` (32x32), for comparisons at equal networks.
        image_shape: channels, height and width of the images, whose values lie in [0, 1].
        num_labels: all classes of the data.
        class_dim: size of the class code (their content code), without skips.
        content_dim: size of the content code (their pose code).
        content_skips: the decoder also sees the class encoder's maps, as the published one does by
            default; they become part of the class code, some 100,000 numbers more. By default
            there are skips with `published` networks; LORD's have none.
        critic_hidden: units of the scene discriminator's two hidden layers.
        reconstruction: `published`, the mean squared error; `l1`, `mse`, or features of `vgg16` or
            `efficientnet_lite0`; or your own module, called with (x̂, x), giving a scalar.
        reconstruction_weights: a file with the weights of VGG-16 or EfficientNet-lite0, or their
            name; by default torchvision's file, or the package's own.
        reconstruction_weight: of that error.
        similarity_weight: of the mean squared distance of two class codes of a class.
        adversarial_weight: of the cross-entropy of the scene discriminator with the target ½.
        images_per_class: 4, or 3 or 2 for classes of so few images: then x4 is x2, or x3 is x2 and
            x4 is x1.
        batch_size: images of an update; the authors' 100 clips are 400 images.
        steps: updates of the scene discriminator, and of all others after it.
        lr: learning rate of both optimizers, each of which is Adam.
        betas: Adam's decay rates of the two moments.
        class_encoder: your own class encoder, images to (N, class_dim).
        content_encoder: your own content encoder, images to (N, content_dim).
        decoder: your own decoder, called with (class code, content code), giving images.
        scene_discriminator: your own, called with two content codes, giving (N, 1) logits.
    """

    def __init__(
        self,
        *,
        architecture: RivalArchitecture = "published",
        image_shape: tuple[int, int, int] = (3, 64, 64),
        num_labels: int = 10,
        class_dim: int = 128,
        content_dim: int = 10,
        content_skips: bool | None = None,
        critic_hidden: int = 100,
        reconstruction: ReconstructionName | nn.Module = "published",
        reconstruction_weights: str | None = None,
        reconstruction_weight: float = 1.0,
        similarity_weight: float = 1.0,
        adversarial_weight: float = 1e-4,
        images_per_class: int = 4,
        batch_size: int = 400,
        steps: int = 120_000,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.5, 0.999),
        class_encoder: nn.Module | None = None,
        content_encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
        scene_discriminator: nn.Module | None = None,
    ) -> None:
        super().__init__()
        check_choice(architecture=(architecture, ("published", *ARCHITECTURES)))
        check_at_least(
            1,
            num_labels=num_labels,
            class_dim=class_dim,
            content_dim=content_dim,
            critic_hidden=critic_hidden,
        )
        check_at_least(
            0,
            reconstruction_weight=reconstruction_weight,
            similarity_weight=similarity_weight,
            adversarial_weight=adversarial_weight,
            steps=steps,
            lr=lr,
        )
        check_groups(batch_size, images_per_class, least=2)
        if images_per_class > MOST_IMAGES:
            raise UserError(
                f"images_per_class must be 2 to {MOST_IMAGES}, got {images_per_class}: the losses "
                f"are of {MOST_IMAGES} images"
            )
        # Half of the groups exchange codes among themselves.
        check_at_least(4 * images_per_class, batch_size=batch_size)
        check_betas(betas)
        self.reconstruction = Reconstruction(
            reconstruction, reconstruction_weights, published="mse"
        )
        self.image_shape, self.num_labels = image_shape, num_labels
        self.vector_dim, self.class_dim, self.content_dim = class_dim, class_dim, content_dim
        # A decoder of the user's own may give any range.
        self.value_range = (0.0, 1.0) if decoder is None else None
        self._make_networks(architecture, content_skips, (class_encoder, content_encoder, decoder))
        if scene_discriminator is None:
            scene_discriminator = SceneDiscriminator(content_dim, hidden=critic_hidden)
            init_dcgan(scene_discriminator)
        self.scene_discriminator = scene_discriminator
        # Not children(): it names a network that stands in two places only once.
        check_separate(
            self.class_encoder, self.content_encoder, self.decoder, self.scene_discriminator
        )
        self.step_settings = StepSettings(
            weights={
                "reconstruction": reconstruction_weight,
                "similarity": similarity_weight,
                "adversarial": adversarial_weight,
            },
            images_per_class=images_per_class,
            steps=steps,
            batch_size=batch_size,
            lr=lr,
            betas=(betas[0], betas[1]),
        )

    def _make_networks(
        self,
        architecture: str,
        skips: bool | None,
        own: tuple[nn.Module | None, nn.Module | None, nn.Module | None],
    ) -> None:
        published = architecture == "published"
        class_encoder, content_encoder, decoder = own
        if skips is None:
            skips = published and class_encoder is None and decoder is None
        if skips and (not published or class_encoder is not None or decoder is not None):
            raise UserError(
                "content_skips join the published class encoder and decoder, no other networks: "
                "set it to false"
            )
        if class_encoder is None or content_encoder is None or decoder is None:
            make = self._published_networks if published else self._lord_networks
            made = make(architecture, skips)
            # `is None`, not truth: an empty nn.Sequential is false, and still the user's choice.
            class_encoder = made[0] if class_encoder is None else class_encoder
            content_encoder = made[1] if content_encoder is None else content_encoder
            decoder = made[2] if decoder is None else decoder
        self.class_encoder, self.content_encoder = class_encoder, content_encoder
        self.decoder = decoder
        if skips:
            self.class_dim += sum(c * h * w for c, h, w in skip_shapes(SIDE))

    def _published_networks(self, architecture: str, skips: bool) -> tuple[nn.Module, ...]:
        channels, *sides = self.image_shape
        if sides != [SIDE, SIDE]:
            raise UserError(
                f"image_shape {tuple(self.image_shape)} does not fit architecture "
                f"{architecture!r}: its images have {SIDE} x {SIDE} pixels; take one of "
                f"{', '.join(ARCHITECTURES)}"
            )
        networks = (
            DcganEncoder(channels, self.vector_dim, skips=skips),
            DcganEncoder(channels, self.content_dim),
            DcganDecoder(channels, self.vector_dim, self.content_dim, skips=skips),
        )
        for network in networks:
            init_dcgan(network)
        return networks

    def _lord_networks(self, architecture: str, skips: bool) -> tuple[nn.Module, ...]:
        shape, sizes = self.image_shape, (self.vector_dim, self.content_dim)
        encoders = lord_encoders(shape, architecture, *sizes)
        return (
            nn.Sequential(encoders.class_encoder, *_published_head(sizes[0])),
            nn.Sequential(encoders.content_encoder, *_published_head(sizes[1])),
            lord_generator(shape, architecture, *sizes),
        )

    def stages(self) -> list[Stage]:
        """One: in every update the scene discriminator, then the other networks."""
        return [DrNetStage(self)]

    def encode(self, images: Tensor) -> Codes:
        """Images to class code (with the maps that skips take) and content code."""
        return Codes(self.class_encoder(images), self.content_encoder(images))

    def decode(self, codes: Codes) -> Tensor:
        """Class codes and content codes to images."""
        images: Tensor = self.decoder(codes.label, codes.residual)
        return images


def _published_head(code_dim: int) -> tuple[nn.Module, nn.Module]:
    """What follows the last layer of both published encoders.

    Without the norm, the similarity loss is least where all class codes are the same.
    """
    return nn.BatchNorm1d(code_dim), nn.Tanh()


MOST_IMAGES = 4


class StepSettings(NamedTuple):
    """What one update needs to know; see the arguments of `DrNet`."""

    weights: dict[str, float]
    images_per_class: int
    steps: int
    batch_size: int
    lr: float
    betas: tuple[float, float]


class DrNetStage(Stage):
    """The scene discriminator learns to tell pairs apart; then the others learn, against it."""

    def __init__(self, model: DrNet) -> None:
        settings = model.step_settings
        drawing = parameters_of(model.class_encoder, model.content_encoder, model.decoder)
        learning = {
            "scene_discriminator": parameters_of(model.scene_discriminator),
            "autoencoder": drawing,
        }
        loss = model.reconstruction.loss()
        assert loss is not None
        super().__init__(
            "drnet",
            networks={
                # Images of different roles have batch statistics of their own, as published.
                "class_encoder": Passes(model.class_encoder),
                "content_encoder": Passes(model.content_encoder),
                "decoder": model.decoder,
                "scene_discriminator": model.scene_discriminator,
            },
            optimizers={
                name: Adam(parameters, lr=settings.lr, betas=settings.betas)
                for name, parameters in learning.items()
            },
            fixed={"reconstruction": loss},
            max_steps=settings.steps,
            batch_size=settings.batch_size,
            images_per_class=settings.images_per_class,
        )
        self.vector_dim = model.vector_dim
        self.settings = settings

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One update of the scene discriminator, one of the other networks."""
        x1, x2, x3, x4 = self._roles(batch["image"])
        content, other = self.networks["content_encoder"]((x3,), (x4,))
        other = other.detach()
        # The encoder does not move in between: one pass serves both updates.
        logs = self._update_discriminator(content.detach(), other)
        class_code, target = self.networks["class_encoder"]((x1,), (x2,))
        x_hat = self.networks["decoder"](class_code, content)
        critic = self.networks["scene_discriminator"]
        with frozen(critic):
            logits = critic(content, other)
            terms = {
                "reconstruction": error_of(self, x_hat, x3),
                # The maps that skips take are no part of the code that is to be the same.
                "similarity": F.mse_loss(
                    class_code[:, : self.vector_dim], target[:, : self.vector_dim].detach()
                ),
                "adversarial": F.binary_cross_entropy_with_logits(
                    logits, torch.full_like(logits, 0.5)
                ),
            }
            self.update("autoencoder", weighted_sum(terms, self.settings.weights))
        # of no player, but comparable between methods
        terms["pixel"] = F.mse_loss(x_hat.detach(), x3.to(x_hat.dtype))
        return {**logs, **{f"loss/{name}": term.detach() for name, term in terms.items()}}

    def _roles(self, x: Tensor) -> tuple[Tensor, ...]:
        """x1 to x4 of each group; groups of fewer images give some of them two roles."""
        size = self.settings.images_per_class
        groups = x.reshape(-1, size, *x.shape[1:])
        return tuple(groups[:, k] for k in (0, 1, size - 1, size - 2))

    def _update_discriminator(self, content: Tensor, other: Tensor) -> dict[str, Tensor]:
        """Pairs of the first half of the batch are shuffled (target 1), the others left (0)."""
        half = len(content) // 2
        shuffled = other[:half][torch.randperm(half, device=other.device)]
        target = torch.zeros(len(content), 1, device=content.device)
        target[:half] = 1.0
        logits = self.networks["scene_discriminator"](content, torch.cat([shuffled, other[half:]]))
        loss = F.binary_cross_entropy_with_logits(logits, target)
        self.update("scene_discriminator", loss)
        right = (logits.detach() > 0) == (target > 0.5)
        return {"loss/scene": loss.detach(), "accuracy/scene": right.float().mean()}
