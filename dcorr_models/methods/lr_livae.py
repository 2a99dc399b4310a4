"""Lr-LiVAE: a VAE whose code has label-relevant and label-irrelevant dimensions.

Zheng and Sun 2019, "Disentangling latent space for VAE by label relevant/irrelevant dimensions"
(CVPR). In the words of this package z_s is the class code and z_u the content code. Every departure
from the paper and from its published code is listed in `docs/methods/lr_livae.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from dcorr_models.data.base import LabelledImages
from dcorr_models.errors import UserError
from dcorr_models.methods.base import Codes
from dcorr_models.methods.checks import (
    check_at_least,
    check_betas,
    check_choice,
    check_separate,
)
from dcorr_models.methods.class_conditional import ClassConditional
from dcorr_models.methods.class_content import ClassContent
from dcorr_models.methods.lr_livae_gaussians import ClassGaussians, GmForm, LearnedSpread
from dcorr_models.methods.lr_livae_stage import LrLiVAEStage, StepSettings, Unlabelled
from dcorr_models.nets.lr_livae import ARCHITECTURES, Decoder, Encoder, Norm, latent_classifier
from dcorr_models.nets.projection_discriminator import ProjectionDiscriminator
from dcorr_models.training.gan import GanLoss
from dcorr_models.training.stage import Stage

__all__ = ["LrLiVAE"]


class LrLiVAE(ClassConditional, ClassContent):
    """Lr-LiVAE (Zheng and Sun 2019), as a VAE or with a discriminator.

    An image has a class code z_s, a point that follows one learned Gaussian for each class, and a
    content code z_u with a Gaussian posterior, which is kept from knowing the class. A new image of
    a class is drawn from its Gaussian and N(0, I).

    Args:
        architecture: `facescrub64` (64x64x3), `cifar10` (32x32x3) and `toy` (points) with the
            layers of the published code; `mnist` (28x28x1) and, for a CPU, `mnist_small`.
        image_shape: channels, height and width; points are images of (2, 1, 1).
        num_labels: classes.
        class_dim: size of z_s.
        content_dim: size of z_u.
        use_discriminator: the GAN form; without it, it is the paper's VAE.
        gan_loss: the paper's `log` loss, or the `hinge` of the published code.
        gan_weight: weight of the adversarial terms in the decoder's loss.
        prior_labels: classes of the drawn images that the discriminator sees: those of the `batch`,
            as in the paper, or drawn, `uniform`, as in the published code.
        adversary: what keeps the class out of z_u: a `classifier` that Enc_u confuses, as in the
            paper; `dcov`, the squared distance covariance with the class; or `none`.
        dcov_with: for `dcov`, the class is its one-hot `labels` or the `class_code`.
        confusion_weight: weight of L_E, or of the distance covariance, in Enc_u's loss.
        gm_form: of the GM loss: `log`, or the `probability` form of the published code.
        learned_spread: parameters of the class Gaussians: log-`variances`, with a floor of 1e-6, or
            the `precisions` of the published code.
        n_gm: steps of the GM loss in an iteration, each on a batch of its own; with 0 the class
            Gaussians stay as they were made.
        joint_batch: the joint step's batch is a `new` one, as in the paper, or the `last` of the GM
            steps, as in the published code.
        likelihood_weight: λ_lkd of the GM loss.
        joint_likelihood_weight: weight of L_lkd in the joint step.
        reconstruction_weight: of the mean squared error of a value, for both encoders and decoder.
        kl_weight: of the KL divergence, the mean over the dimensions of z_u.
        unlabelled: unlabelled training images (label -1) make a second stage: they are of `known`
            classes and follow the mixture, of `unknown` ones and follow its total Gaussian, or
            there are `none`.
        unlabelled_batch_size: such images of a joint step, beside the labelled ones.
        unlabelled_steps: iterations of that stage.
        missing_classes: classes of the data without a labelled training image: `refuse`, or
            `leave_out`: they have no Gaussian. With `unlabelled` they are left out.
        start_from: folder of a finished run of this method whose weights are fine-tuned; with
            `unlabelled`, set `steps` to 0 if only the second stage is wanted.
        statistics: BatchNorm uses its `running` statistics in evaluation, or always those of the
            `batch`, as in the published code: then a result depends on the images beside it.
        batch_norm_momentum: share of a new batch in the running statistics.
        batch_size: labelled images of a GM step and of the joint step.
        steps: iterations of the supervised stage, `n_gm` GM steps and one joint step each.
        lr: learning rate of all Adams.
        variance_lr_milestones: iterations after which that of the variances is multiplied by
            `variance_lr_decay`; the published code does so every 10 epochs.
        variance_lr_decay: factor at each milestone.
        betas: decay rates of all Adams.
        class_encoder: your own, images to (N, class_dim).
        content_encoder: your own, images to (N, 2 · content_dim): means, then log-variances.
        decoder: your own, called with (z_s, z_u), giving images.
        discriminator: your own, called with (images, classes or -1), giving a pair whose first is
            the logits (N,).
        latent_classifier: your own, (N, content_dim) to logits (N, num_labels).
    """

    samples_from = "class Gaussians"
    # As the adversary and the decoder do. The mean of z_u says more of the class: that is what
    # `leakage` of evaluation.json reads.
    probes_read_samples = True

    def __init__(
        self,
        *,
        architecture: Literal["facescrub64", "cifar10", "mnist", "mnist_small", "toy"] = "mnist",
        image_shape: tuple[int, int, int] = (1, 28, 28),
        num_labels: int = 10,
        class_dim: int = 32,
        content_dim: int = 32,
        use_discriminator: bool = True,
        gan_loss: GanLoss = "log",
        gan_weight: float = 1.0,
        prior_labels: Literal["batch", "uniform"] = "batch",
        adversary: Literal["classifier", "dcov", "none"] = "classifier",
        dcov_with: Literal["labels", "class_code"] = "labels",
        confusion_weight: float = 1.0,
        gm_form: GmForm = "log",
        learned_spread: LearnedSpread = "variances",
        n_gm: int = 3,
        joint_batch: Literal["new", "last"] = "new",
        likelihood_weight: float = 0.1,
        joint_likelihood_weight: float = 1.0,
        reconstruction_weight: float = 10.0,
        kl_weight: float = 1.0,
        unlabelled: Unlabelled = "none",
        unlabelled_batch_size: int = 96,
        unlabelled_steps: int = 10_000,
        missing_classes: Literal["refuse", "leave_out"] = "refuse",
        start_from: str | None = None,
        statistics: Literal["running", "batch"] = "running",
        batch_norm_momentum: float = 0.1,
        batch_size: int = 96,
        steps: int = 52_000,
        lr: float = 5e-4,
        variance_lr_milestones: tuple[int, ...] = (),
        variance_lr_decay: float = 0.1,
        betas: tuple[float, float] = (0.0, 0.9),
        class_encoder: nn.Module | None = None,
        content_encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
        discriminator: nn.Module | None = None,
        latent_classifier: nn.Module | None = None,
    ) -> None:
        super().__init__()
        check_choice(
            architecture=(architecture, ARCHITECTURES),
            gan_loss=(gan_loss, ("log", "hinge")),
            prior_labels=(prior_labels, ("batch", "uniform")),
            adversary=(adversary, ("classifier", "dcov", "none")),
            dcov_with=(dcov_with, ("labels", "class_code")),
            gm_form=(gm_form, ("log", "probability")),
            learned_spread=(learned_spread, ("variances", "precisions")),
            joint_batch=(joint_batch, ("new", "last")),
            unlabelled=(unlabelled, ("none", "known", "unknown")),
            missing_classes=(missing_classes, ("refuse", "leave_out")),
            statistics=(statistics, ("running", "batch")),
        )
        check_at_least(1, num_labels=num_labels, class_dim=class_dim, content_dim=content_dim)
        check_at_least(2, batch_size=batch_size)
        check_at_least(1, unlabelled_batch_size=unlabelled_batch_size)
        check_at_least(
            0,
            gan_weight=gan_weight,
            confusion_weight=confusion_weight,
            n_gm=n_gm,
            likelihood_weight=likelihood_weight,
            joint_likelihood_weight=joint_likelihood_weight,
            reconstruction_weight=reconstruction_weight,
            kl_weight=kl_weight,
            unlabelled_steps=unlabelled_steps,
            steps=steps,
            lr=lr,
            variance_lr_decay=variance_lr_decay,
        )
        check_betas(betas)
        milestones = tuple(variance_lr_milestones)
        if milestones != tuple(sorted(milestones)) or min(milestones, default=0) < 0:
            raise UserError(
                "variance_lr_milestones must be numbers of iterations in ascending order, 0 or "
                f"more, got {milestones}"
            )
        if not 0 < batch_norm_momentum <= 1:
            raise UserError(f"batch_norm_momentum must lie in (0, 1], got {batch_norm_momentum}")
        self.image_shape, self.num_labels = image_shape, num_labels
        self.class_dim, self.content_dim = class_dim, content_dim
        self.steps, self.unlabelled_steps = steps, unlabelled_steps
        self.start_from, self.batch_statistics = start_from, statistics == "batch"
        self.takes_unlabelled = unlabelled != "none"
        self.needs_every_class = missing_classes == "refuse" and not self.takes_unlabelled
        self.gaussians = ClassGaussians(num_labels, class_dim, form=gm_form, learned=learned_spread)
        norm = Norm(momentum=batch_norm_momentum, running=not self.batch_statistics)
        self._make_encoders(architecture, norm, class_encoder, content_encoder, decoder)
        self._make_opponents(
            architecture,
            discriminator if use_discriminator else False,
            latent_classifier if adversary == "classifier" else False,
        )
        check_separate(*self.children())
        self.step_settings = StepSettings(
            n_gm=n_gm,
            joint_batch=joint_batch,
            gan_loss=gan_loss,
            prior_labels=prior_labels,
            dcov_with=dcov_with if adversary == "dcov" else None,
            likelihood_weight=likelihood_weight,
            joint_likelihood_weight=joint_likelihood_weight,
            reconstruction_weight=reconstruction_weight,
            kl_weight=kl_weight,
            confusion_weight=confusion_weight,
            gan_weight=gan_weight,
            unlabelled=unlabelled,
            unlabelled_batch_size=unlabelled_batch_size,
            batch_size=batch_size,
            lr=lr,
            variance_lr_milestones=milestones,
            variance_lr_decay=variance_lr_decay,
            betas=(betas[0], betas[1]),
        )

    def _make_encoders(
        self,
        architecture: str,
        norm: Norm,
        class_encoder: nn.Module | None,
        content_encoder: nn.Module | None,
        decoder: nn.Module | None,
    ) -> None:
        shape, sizes = self.image_shape, ARCHITECTURES[architecture]
        # `is None`, not truth: an empty nn.Sequential is false, and still the user's choice.
        if class_encoder is None:
            class_encoder = Encoder(shape, sizes, (self.class_dim,), norm=norm)
        if content_encoder is None:
            heads = (self.content_dim, self.content_dim)
            content_encoder = Encoder(shape, sizes, heads, norm=norm)
        # A decoder of the user's own may give any range.
        self.value_range = sizes.value_range if decoder is None else None
        if decoder is None:
            decoder = Decoder(shape, sizes, self.class_dim + self.content_dim, norm=norm)
        self.class_encoder, self.content_encoder = class_encoder, content_encoder
        self.decoder = decoder

    def _make_opponents(
        self,
        architecture: str,
        discriminator: nn.Module | Literal[False] | None,
        adversary: nn.Module | Literal[False] | None,
    ) -> None:
        """False: there is none; None: the architecture's own."""
        shape, sizes = self.image_shape, ARCHITECTURES[architecture]
        if discriminator is None:
            discriminator = ProjectionDiscriminator(shape, sizes.critic, self.num_labels)
        if adversary is None:
            adversary = latent_classifier(self.content_dim, sizes, self.num_labels)
        self.discriminator = None if discriminator is False else discriminator
        self.adversary = None if adversary is False else adversary

    def meet(self, train: LabelledImages) -> None:
        """Takes the weights of `start_from`, and notes which classes have labelled images."""
        if self.start_from is not None:
            # Here: what loads a run makes methods.
            from dcorr_models.experiment import load_weights
            from dcorr_models.run_folder import RunFolder

            folder = RunFolder(self.start_from)
            try:
                folder.read_config()  # says so where there is no run
                load_weights(self, folder, settings="these settings")
            except UserError as error:
                raise type(error)(
                    f"start_from: {error}; give it the folder of a finished run of this method "
                    "with the same networks"
                ) from error
        self.gaussians.meet(train.labels)

    def stages(self) -> list[Stage]:
        """The supervised stage; then, with `unlabelled`, one that takes unlabelled images too."""
        stages: list[Stage] = []
        if self.steps or not self.takes_unlabelled:
            stages += [LrLiVAEStage(self, name="lr_livae", steps=self.steps)]
        if self.takes_unlabelled:
            steps = self.unlabelled_steps
            stages += [
                LrLiVAEStage(self, name="semi_supervised", steps=steps, with_unlabelled=True)
            ]
        return stages

    def rehearsal(
        self, images: Tensor
    ) -> Iterator[tuple[str, Callable[[], object], tuple[int, ...]]]:
        """Codes, decoder and samples; then the two opponents, by the names of the arguments."""
        yield from super().rehearsal(images)
        n = len(images)
        labels = self.known_classes()[:1].expand(n).to(images.device)
        if self.discriminator is not None:
            critic = self.discriminator
            yield "discriminator (logits)", lambda: critic(images, labels)[0], (n,)
        if self.adversary is not None:
            classifier, codes = self.adversary, self.encode(images).residual
            yield "latent_classifier", lambda: classifier(codes), (n, self.num_labels)

    def encode(self, images: Tensor) -> Codes:
        """Images to z_s, a point, and the mean of z_u."""
        return Codes(self.class_code(images), self.posterior(images)[0])

    def class_code(self, images: Tensor) -> Tensor:
        """Images to z_s alone, (N, class_dim)."""
        self._check_batch(len(images))
        code: Tensor = self.class_encoder(images)
        return code

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of z_u, (N, content_dim) each."""
        self._check_batch(len(images))
        mean, log_variance = self.content_encoder(images).chunk(2, dim=1)
        return mean, log_variance

    def decode(self, codes: Codes) -> Tensor:
        """Class codes and content codes to images."""
        self._check_batch(len(codes.label))
        images: Tensor = self.decoder(codes.label, codes.residual)
        return images

    def class_vectors(self) -> Tensor:
        """(num_labels, class_dim): the class means; NaN for classes without training images."""
        return self.gaussians.vectors()

    def class_deviations(self) -> Tensor:
        """(num_labels, class_dim): standard deviations of the class Gaussians."""
        return (0.5 * self.gaussians.mixture.log_variances).exp()

    def known_classes(self) -> Tensor:
        """The classes that have a Gaussian: those of labelled training images."""
        return self.gaussians.seen.nonzero().flatten().cpu()

    def draw_codes(self, labels: Tensor, *, generator: torch.Generator | None = None) -> Codes:
        """Codes of new images: z_s of each label's Gaussian, z_u of N(0, I); see `sample`."""
        self.check_classes(labels)
        z_s = self.gaussians.mixture.sample(labels, generator=generator)
        shape = (len(labels), self.content_dim)
        z_u = torch.randn(shape, generator=generator, dtype=z_s.dtype, device=z_s.device)
        return Codes(z_s, z_u)

    def _check_batch(self, count: int) -> None:
        if self.batch_statistics and count < 2:
            raise UserError(
                f"this {type(self).__name__} uses batch statistics in evaluation "
                "(--method.statistics batch), and one image has none: give two or more, or train "
                "with running statistics"
            )
