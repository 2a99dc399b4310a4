"""VAE/GAN: a variational auto-encoder whose decoder is also a generator, judged by features.

Larsen, Sønderby, Larochelle and Winther 2016, "Autoencoding beyond pixels using a learned
similarity metric" (arXiv 1512.09300), as a baseline of CDNet. It has no label encoder: images are
edited by arithmetic on z. The settings of the ports by CDNet's authors and those of the original
code are arguments; every departure from either is in `docs/methods/vae_gan.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcorr_models.errors import UserError
from dcorr_models.methods.base import Codes, Method
from dcorr_models.methods.checks import check_at_least, check_choice, check_separate
from dcorr_models.methods.code_means import CodeMeans, CodeMeansStage
from dcorr_models.methods.vae_gan_stage import Schedule, StepSettings, VaeGanStage
from dcorr_models.nets.initialisation import INITIALISATIONS, Initialisation, initialise
from dcorr_models.nets.vae_gan import (
    ARCHITECTURES,
    FeatureCritic,
    VariationalDecoder,
    VariationalEncoder,
    set_batch_norm,
)
from dcorr_models.training.gan import EquilibriumGate
from dcorr_models.training.stage import Stage

__all__ = ["VAEGAN"]


class VAEGAN(Method):
    """VAE/GAN (Larsen et al. 2016), with the MNIST settings of CDNet's port as defaults.

    Attributes: the label code holds what is added to z of each attribute's vector,
    x̂ = Dec(z + label V), v_k = mean z(with k) - mean z(without k); `encode` gives zeros, and a
    number written there is the intensity of an edit. Classes: the label code is one-hot of the
    nearest class mean in z, the residual code is z minus that mean, and exchanging the label moves
    z by the difference of two means.

    Args:
        architecture: sizes of the three networks: `mnist` (28x28x1) and `celeba` (64x64x3) of the
            ports, `larsen` (64x64x3) of the original code, `faces_small` (64x64x3) for a CPU.
        image_shape: channels, height and width of the images.
        num_labels: classes, or attributes of a multilabel problem.
        multilabel: labels are attribute vectors.
        latent_dim: size of z.
        kl_weight: weight of the KL divergence in the encoder's loss.
        feature_weight: weight of the feature error in the decoder's loss; in the encoder's it is 1.
        adversarial_weight: weight of the discriminator's loss, with a minus, in the decoder's.
        reduction: every term is the `sum` over batch, code and features, as in all releases, or
            the `mean` over all elements, which needs other weights.
        feature_layer: which halving convolution of the discriminator gives the features, before
            its BatchNorm, from 1 on; 0 for the last, as in all releases.
        fakes: what the discriminator is to tell from real images: images of `prior` samples, as in
            the releases for faces, or of samples and reconstructions, `both`, as in the paper.
        log_epsilon: added inside the logarithms of the adversarial loss: 0 in the paper, 1e-3 in
            all releases.
        gate: rest the player that is ahead, as all releases do; the paper has no gate.
        generator_sees_real: keep the real half of the adversarial loss in the decoder's loss, as
            the releases do (it reaches the decoder through the BatchNorm statistics of the joint
            batch); false drops it.
        batch_norm_momentum: share of a new batch in BatchNorm's running statistics: 0.1 in the
            MNIST port; 0.9 in the CelebA port, the original's decay of 0.9 taken for its opposite.
        initialisation: initial weights: `scaled_uniform` in the ports, `dcgan`, or PyTorch's
            `default`.
        batch_size: images of an update.
        steps: updates.
        lr: learning rate.
        lr_milestones: updates after which it is multiplied by `lr_decay`.
        lr_decay: factor at each milestone.
        lr_end: learning rate at the end, with the original code's annealing
            lr - (lr - lr_end) (t / steps)^lr_power; none for no annealing.
        lr_power: its exponent.
        weight_decay: 1e-5 in the original code, 0 in the ports.
        vector_images: training images that attribute vectors and class means are taken over; more
            than the split has count some images twice.
        encoder: your own encoder, images to (N, 2 · latent_dim): means, then log-variances.
        decoder: your own decoder, (N, latent_dim) to images.
        discriminator: your own discriminator, giving a pair (logits, features).
    """

    infers_attributes = False
    intensities = (-1.0, 3.0)

    def __init__(
        self,
        *,
        architecture: Literal["mnist", "celeba", "larsen", "faces_small"] = "mnist",
        image_shape: tuple[int, int, int] = (1, 28, 28),
        num_labels: int = 10,
        multilabel: bool = False,
        latent_dim: int = 20,
        kl_weight: float = 1.0,
        feature_weight: float = 0.01,
        adversarial_weight: float = 0.99,
        reduction: Literal["sum", "mean"] = "sum",
        feature_layer: int = 0,
        fakes: Literal["prior", "both"] = "prior",
        log_epsilon: float = 1e-3,
        gate: bool = True,
        generator_sees_real: bool = True,
        batch_norm_momentum: float = 0.1,
        initialisation: Initialisation = "scaled_uniform",
        batch_size: int = 100,
        steps: int = 125_000,
        lr: float = 1e-4,
        lr_milestones: tuple[int, ...] = (),
        lr_decay: float = 0.75,
        lr_end: float | None = None,
        lr_power: float = 0.75,
        weight_decay: float = 0.0,
        vector_images: int = 10_000,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
        discriminator: nn.Module | None = None,
    ) -> None:
        super().__init__()
        check_choice(
            architecture=(architecture, ARCHITECTURES),
            reduction=(reduction, ("sum", "mean")),
            fakes=(fakes, ("prior", "both")),
            initialisation=(initialisation, INITIALISATIONS),
        )
        sizes = ARCHITECTURES[architecture]
        check_at_least(
            1,
            latent_dim=latent_dim,
            num_labels=num_labels,
            batch_size=batch_size,
            vector_images=vector_images,
        )
        check_at_least(
            0,
            kl_weight=kl_weight,
            feature_weight=feature_weight,
            adversarial_weight=adversarial_weight,
            log_epsilon=log_epsilon,
            steps=steps,
            lr=lr,
            lr_decay=lr_decay,
            lr_end=0.0 if lr_end is None else lr_end,
            lr_power=lr_power,
            weight_decay=weight_decay,
        )
        halvings = len(sizes.critic_widths) - 1
        if not 0 <= feature_layer <= halvings:
            raise UserError(
                f"feature_layer must be 1 to {halvings} for architecture {architecture!r}, or 0 "
                f"for the last, got {feature_layer}"
            )
        if not 0 < batch_norm_momentum <= 1:
            raise UserError(f"batch_norm_momentum must lie in (0, 1], got {batch_norm_momentum}")
        own = (encoder, decoder, discriminator)
        if None in own and any(side % sizes.image_multiple for side in image_shape[1:]):
            raise UserError(
                f"image_shape {tuple(image_shape)} does not fit architecture {architecture!r}: "
                f"height and width must be multiples of {sizes.image_multiple}"
            )
        self.image_shape, self.num_labels = image_shape, num_labels
        self.multilabel, self.latent_dim = multilabel, latent_dim
        ranges = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}
        # A decoder of the user's own may give any range.
        self.value_range = ranges[sizes.output] if decoder is None else None
        made = (
            VariationalEncoder(image_shape, sizes, latent_dim) if encoder is None else encoder,
            VariationalDecoder(image_shape, sizes, latent_dim) if decoder is None else decoder,
            FeatureCritic(image_shape, sizes, feature_layer)
            if discriminator is None
            else discriminator,
        )
        for network, given in zip(made, own, strict=True):
            if given is None:
                initialise(network, initialisation)
                set_batch_norm(network, momentum=batch_norm_momentum, epsilon=sizes.norm_epsilon)
        check_separate(*made)
        self.encoder, self.decoder, self.discriminator = made
        self.code_means = CodeMeans(num_labels=num_labels, latent_dim=latent_dim)
        self.vector_images = vector_images
        self.step_settings = StepSettings(
            kl_weight=kl_weight,
            feature_weight=feature_weight,
            adversarial_weight=adversarial_weight,
            sums=reduction == "sum",
            judge_reconstructions=fakes == "both",
            log_epsilon=log_epsilon,
            gate=EquilibriumGate() if gate else None,
            generator_sees_real=generator_sees_real,
        )
        self.schedule = Schedule(
            steps=steps,
            batch_size=batch_size,
            lr=lr,
            lr_milestones=tuple(lr_milestones),
            lr_decay=lr_decay,
            lr_end=lr_end,
            lr_power=lr_power,
            weight_decay=weight_decay,
        )

    def stages(self) -> list[Stage]:
        """The three networks; then the means of z that edits need."""
        return [
            VaeGanStage(self, self.schedule),
            CodeMeansStage(
                self.code_means,
                self.encoder,
                num_labels=self.num_labels,
                multilabel=self.multilabel,
                images=self.vector_images,
                batch_size=self.schedule.batch_size,
            ),
        ]

    def rehearsal(
        self, images: Tensor
    ) -> Iterator[tuple[str, Callable[[], object], tuple[int, ...]]]:
        """Each network, by the names of the arguments."""
        n, shape = len(images), tuple(images.shape)
        yield "encoder", lambda: self.encoder(images), (n, 2 * self.latent_dim)
        codes = self.encode(images)
        yield "decoder", lambda: self.decode(codes), shape
        logits, features = _pair(self.discriminator(images))
        yield "discriminator (logits)", lambda: logits, (n, 1)
        yield "discriminator (features)", lambda: features, (n, *features.shape[1:])

    def encode(self, images: Tensor) -> Codes:
        """Images to z, the mean of q(z | x), and the label code described above."""
        z = self.encoder(images)[:, : self.latent_dim]
        if self.multilabel:
            return Codes(z.new_zeros(len(z), self.num_labels), z)
        means = self.directions(z)
        nearest = torch.cdist(z.float(), means.float()).argmin(dim=1)
        labels = F.one_hot(nearest, self.num_labels).to(z.dtype)
        return Codes(labels, z - labels @ means)

    def decode(self, codes: Codes) -> Tensor:
        """Dec(residual + label V) to images; the label code may hold any real values."""
        z = codes.residual + codes.label.to(codes.residual.dtype) @ self.directions(codes.residual)
        images: Tensor = self.decoder(z)
        return images

    def directions(self, like: Tensor) -> Tensor:
        """V, (num_labels, latent_dim): attribute vectors, or class means; 0 before their stage."""
        rows = self.code_means.vectors() if self.multilabel else self.code_means.means()
        return rows.to(like.dtype)


def _pair(output: object) -> tuple[Tensor, Tensor]:
    if not isinstance(output, tuple) or len(output) != 2:
        raise UserError(
            f"discriminator must return a pair (logits, features), got {type(output).__name__}"
        )
    return output
