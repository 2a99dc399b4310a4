"""IcGAN: a conditional GAN, inverted by two encoders, so that real images can be edited.

Perarnau, van de Weijer, Raducanu and Álvarez 2016, "Invertible conditional GANs for image editing"
(arXiv 1611.06355), as a baseline of CDNet. The settings of the port by CDNet's authors and those of
the original code are arguments; every departure from either is in `docs/methods/icgan.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from dcorr_models.errors import UserError
from dcorr_models.methods.base import Codes, Method
from dcorr_models.methods.checks import check_at_least, check_choice, check_separate
from dcorr_models.methods.icgan_stages import EncoderStage, GanStage, Schedule, StepSettings
from dcorr_models.nets.icgan import (
    ARCHITECTURES,
    Architecture,
    ConditionalCritic,
    ConditionalGenerator,
    IcganEncoder,
)
from dcorr_models.nets.initialisation import INITIALISATIONS, Initialisation, initialise
from dcorr_models.training.stage import Stage

__all__ = ["IcGAN"]


class IcGAN(Method):
    """IcGAN (Perarnau et al. 2016), with the MNIST settings of CDNet's port as defaults.

    An image is encoded to y = Enc_y(x), thresholded, and z = Enc_z(x), and drawn by the generator.
    The label code that users see is 0 or 1 in each column whatever `label_coding` is.

    Args:
        architecture: sizes of the four networks: `mnist` (28x28x1) and `celeba` (64x64x3) of the
            port, `faces_small` (64x64x3) for a CPU.
        image_shape: channels, height and width of the images.
        num_labels: classes, or attributes of a multilabel problem.
        multilabel: labels are attribute vectors; otherwise each image has one class, and its label
            code is one-hot.
        latent_dim: size of the residual code z.
        label_coding: what the networks read for absent and present: `zero_one` in the port,
            `plus_minus_one` in the original code.
        generator_input: without a dense layer, the generator begins at a map filled with copies of
            (z, y), `replicated`, as in the port, or at a `single` pixel, as in the original code.
        initialisation: initial weights of generator and discriminator: `scaled_uniform` in the
            port, `dcgan` in the original code, or PyTorch's `default`. The encoders have PyTorch's.
        wrong_label_weight: w in the discriminator's loss: real + w · (real images with labels of
            others) + (1 - w) · fake; 0 in the port, 0.5 in the original code.
        fake_labels: the generator is given the labels of the `batch`, image by image, or those of
            other images of it, `shuffled`.
        generator_noise: in the sequential form the generator's update draws `fresh` z, as in the
            port, or is judged on the images that the discriminator has just seen, `shared`, as in
            the original code.
        updates: `sequential` (both releases: the discriminator, then the generator against it) or
            `simultaneous` (one pass of each network and the same parameters for both players).
        stored_codes: Enc_z learns from images of so many stored z, as in the original code; 0
            draws new z in every update, as in the port.
        batch_size: images of an update.
        steps: updates of the GAN.
        lr: its learning rate, with Adam.
        betas: Adam's two decay rates in the first stage.
        lr_milestones: updates after which the rate is multiplied by `lr_decay`.
        lr_decay: factor at each milestone, of both stages.
        encoder_steps: updates of the two encoders.
        encoder_lr: their learning rate.
        encoder_betas: their Adam's two decay rates.
        encoder_lr_milestones: as `lr_milestones`, counted in the second stage.
        generator: your own generator, called with (z, y), giving images.
        discriminator: your own discriminator, called with (images, y), giving (N, 1) logits.
        latent_encoder: your own Enc_z, images to (N, latent_dim).
        label_encoder: your own Enc_y, images to (N, num_labels).
    """

    intensities = (0.0, 6.0)

    def __init__(
        self,
        *,
        architecture: Literal["mnist", "celeba", "faces_small"] = "mnist",
        image_shape: tuple[int, int, int] = (1, 28, 28),
        num_labels: int = 10,
        multilabel: bool = False,
        latent_dim: int = 10,
        label_coding: Literal["zero_one", "plus_minus_one"] = "zero_one",
        generator_input: Literal["replicated", "single"] = "replicated",
        initialisation: Initialisation = "scaled_uniform",
        wrong_label_weight: float = 0.0,
        fake_labels: Literal["batch", "shuffled"] = "batch",
        generator_noise: Literal["fresh", "shared"] = "fresh",
        updates: Literal["sequential", "simultaneous"] = "sequential",
        stored_codes: int = 0,
        batch_size: int = 100,
        steps: int = 75_000,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        lr_milestones: tuple[int, ...] = (10_000, 20_000, 30_000, 50_000),
        lr_decay: float = 0.75,
        encoder_steps: int = 75_000,
        encoder_lr: float = 1e-4,
        encoder_betas: tuple[float, float] = (0.5, 0.999),
        encoder_lr_milestones: tuple[int, ...] = (10_000, 20_000, 30_000, 50_000),
        generator: nn.Module | None = None,
        discriminator: nn.Module | None = None,
        latent_encoder: nn.Module | None = None,
        label_encoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        check_choice(
            architecture=(architecture, ARCHITECTURES),
            label_coding=(label_coding, ("zero_one", "plus_minus_one")),
            generator_input=(generator_input, ("replicated", "single")),
            initialisation=(initialisation, INITIALISATIONS),
            fake_labels=(fake_labels, ("batch", "shuffled")),
            generator_noise=(generator_noise, ("fresh", "shared")),
            updates=(updates, ("sequential", "simultaneous")),
        )
        check_at_least(1, latent_dim=latent_dim, num_labels=num_labels, batch_size=batch_size)
        check_at_least(
            0,
            steps=steps,
            encoder_steps=encoder_steps,
            lr=lr,
            encoder_lr=encoder_lr,
            lr_decay=lr_decay,
            stored_codes=stored_codes,
        )
        if not 0 <= wrong_label_weight <= 1:
            raise UserError(f"wrong_label_weight must lie in [0, 1], got {wrong_label_weight}")
        for name, pair in {"betas": betas, "encoder_betas": encoder_betas}.items():
            if len(pair) != 2 or not all(0 <= beta < 1 for beta in pair):
                raise UserError(f"{name} must be two numbers in [0, 1), got {tuple(pair)}")
        self.image_shape, self.num_labels = image_shape, num_labels
        self.multilabel, self.latent_dim = multilabel, latent_dim
        self.plus_minus = label_coding == "plus_minus_one"
        sizes = ARCHITECTURES[architecture]
        ranges = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}
        # A generator of the user's own may give any range.
        self.value_range = ranges[sizes.output] if generator is None else None
        self._make_networks(
            sizes,
            (generator, discriminator, latent_encoder, label_encoder),
            architecture=architecture,
            single=generator_input == "single",
            initialisation=initialisation,
        )
        self.step_settings = StepSettings(
            wrong_label_weight=wrong_label_weight,
            shuffled_labels=fake_labels == "shuffled",
            fresh_noise=generator_noise == "fresh",
            simultaneous=updates == "simultaneous",
            stored_codes=stored_codes,
        )
        self.gan_schedule = Schedule(
            steps, batch_size, lr, (betas[0], betas[1]), tuple(lr_milestones), lr_decay
        )
        self.encoder_schedule = Schedule(
            encoder_steps,
            batch_size,
            encoder_lr,
            (encoder_betas[0], encoder_betas[1]),
            tuple(encoder_lr_milestones),
            lr_decay,
        )

    def _make_networks(
        self,
        sizes: Architecture,
        own: tuple[nn.Module | None, nn.Module | None, nn.Module | None, nn.Module | None],
        *,
        architecture: str,
        single: bool,
        initialisation: str,
    ) -> None:
        shape, labels, latent = self.image_shape, self.num_labels, self.latent_dim
        generator, discriminator, latent_encoder, label_encoder = own
        if None in own and any(side % sizes.image_multiple for side in shape[1:]):
            raise UserError(
                f"image_shape {tuple(shape)} does not fit architecture {architecture!r}: "
                f"height and width must be multiples of {sizes.image_multiple}"
            )
        # `is None`, not truth: an empty nn.Sequential is false, and still the user's choice.
        if generator is None:
            generator = ConditionalGenerator(
                shape, sizes, num_labels=labels, latent_dim=latent, single=single
            )
            initialise(generator, initialisation)
        if discriminator is None:
            discriminator = ConditionalCritic(shape, sizes, num_labels=labels)
            initialise(discriminator, initialisation)
        if latent_encoder is None:
            latent_encoder = IcganEncoder(shape, sizes, sizes.latent_dense, latent)
        if label_encoder is None:
            label_encoder = IcganEncoder(shape, sizes, sizes.label_dense, labels)
        check_separate(generator, discriminator, latent_encoder, label_encoder)
        self.generator, self.discriminator = generator, discriminator
        self.latent_encoder, self.label_encoder = latent_encoder, label_encoder

    def stages(self) -> list[Stage]:
        """The conditional GAN; then, with the generator fixed, the two encoders."""
        return [GanStage(self, self.gan_schedule), EncoderStage(self, self.encoder_schedule)]

    def rehearsal(
        self, images: Tensor
    ) -> Iterator[tuple[str, Callable[[], object], tuple[int, ...]]]:
        """Each network, by the names of the arguments."""
        n, shape = len(images), tuple(images.shape)
        yield "label_encoder", lambda: self.label_encoder(images), (n, self.num_labels)
        yield "latent_encoder", lambda: self.latent_encoder(images), (n, self.latent_dim)
        codes = self.encode(images)
        yield "generator", lambda: self.decode(codes), shape
        yield "discriminator", lambda: self.discriminator(images, codes.label), (n, 1)

    def encode(self, images: Tensor) -> Codes:
        """Images to labels, 0 or 1, and to z = Enc_z(x).

        Attributes are present where Enc_y gives at least the middle of its two target values (0.5
        in the port); the class of an image is the largest entry.
        """
        scores = self.label_encoder(images)
        if self.multilabel:
            labels = (scores >= (0.0 if self.plus_minus else 0.5)).to(scores.dtype)
        else:
            labels = F.one_hot(scores.argmax(dim=1), self.num_labels).to(scores.dtype)
        return Codes(labels, self.latent_encoder(images))

    def decode(self, codes: Codes) -> Tensor:
        """(y, z) to images; y may hold any real values, 0 for absent and 1 for present."""
        images: Tensor = self.generator(codes.residual, self._coded(codes.label))
        return images

    def label_code(self, labels: Tensor) -> Tensor:
        """Classes (N,) or attributes (N, K) of a data set as the networks read them, (N, K)."""
        if not self.multilabel:
            labels = F.one_hot(labels, self.num_labels)
        return self._coded(labels.float())

    def _coded(self, labels: Tensor) -> Tensor:
        return 2 * labels - 1 if self.plus_minus else labels
