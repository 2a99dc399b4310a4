"""LORD: class and content codes found by optimising them, then encoders that give them.

Gabbay and Hoshen 2020, "Demystifying inter-class disentanglement" (arXiv 1906.11796). Every
departure is listed in `docs/methods/lord.md`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Literal

from torch import Tensor, nn

from dcorr_models.data.base import LabelledImages
from dcorr_models.errors import UserError
from dcorr_models.methods.base import Codes
from dcorr_models.methods.checks import (
    check_at_least,
    check_choice,
    check_groups,
    check_separate,
)
from dcorr_models.methods.class_content import ClassContent
from dcorr_models.methods.class_embeddings import ClassEmbeddings, Combine
from dcorr_models.methods.lord_inference import optimised_codes
from dcorr_models.methods.lord_leakage import check_probe
from dcorr_models.methods.lord_settings import VARIANTS, Scale, chosen_scale
from dcorr_models.methods.lord_stages import AmortiseStage, CodesStage, Plan
from dcorr_models.nets.latent_table import LatentTable
from dcorr_models.nets.lord import ARCHITECTURES, LordEncoder, LordGenerator, init_glorot
from dcorr_models.training.perceptual import reconstruction_loss
from dcorr_models.training.row_adam import Skipped
from dcorr_models.training.stage import Stage

__all__ = ["LORD"]

_NAMED = 10


class LORD(ClassContent):
    """LORD (Gabbay and Hoshen 2020) and the variants of its Table 3.

    `scale` names a whole column of published numbers. Each argument from `sigma` to
    `initialisation` that is given takes the place of that one number of the column; the columns
    weigh their losses differently, so that a number of one is wrong in another.

    Args:
        scale: `port`, the authors' PyTorch code; `keras`, their first code, which the paper's
            tables come from; `paper`, its appendix A.1, with `keras` where that says nothing.
        variant: a row of Table 3. `lord`: embeddings for the classes, a code for each image, then
            encoders. `amortised-...`: encoders from the start, the class code averaged over the
            images of a class in the batch. `semi-...`: class embeddings with a content encoder;
            then a class encoder. `-kl`: a Gaussian posterior and its KL divergence, `-noise`: noise
            of a fixed variance and a penalty. `without-second-stage`: codes of new images are
            optimised too. `without-regularisation`: `lord` without noise and penalty.
        architecture: `lord64`, `lord128` (five AdaIN layers), or `sprites_small` (32 pixels).
        image_shape: channels, height and width.
        num_labels: all classes of the data, those of the test split too; or attributes.
        multilabel: labels are attributes; each has two embeddings, see `combine`.
        combine: attributes' embeddings to a class code: their `sum`, `mean` or `concatenation`.
        class_dim: size of the class code.
        content_dim: size of the content code.
        reconstruction: `vgg16` or `efficientnet_lite0` features, `l1`, `mse`, or a module of
            (x̂, x) with a scalar result.
        reconstruction_weights: file of the named network's weights, see
            `training.perceptual.PerceptualLoss`.
        sigma: standard deviation σ of the noise on the content code.
        decay: λ, weight of the content codes' squared norm.
        penalty_on: the penalty is of the `clean` or of the `noisy` code.
        kl_weight: weight of the KL divergence, summed over the dimensions; by default 2λ, with
            which it pulls at the means as the penalty does. The paper gives none.
        batch_size: images of an update, in both stages.
        epochs: length of the first stage; an incomplete batch at an epoch's end is left out.
        steps: its length in updates, in place of `epochs`.
        stop_after: it ends after so many epochs without a better mean loss; 0 never.
        min_delta: by how much a better loss is lower, in both stages.
        lr: rate of the generator, and of encoders in the first stage, at its beginning.
        final_lr: at its end.
        latent_lr: of embeddings and codes at its beginning.
        final_latent_lr: at its end.
        rate_changes: rates follow half a cosine `per_step` or `per_epoch`, or are `constant`.
        encoder_epochs: length of the second stage.
        encoder_steps: its length in updates, in place of `encoder_epochs`.
        encoder_lr: rate of encoders and generator at its beginning.
        encoder_final_lr: at its end.
        encoder_rate_changes: see `rate_changes`.
        encoder_halve_after: the rate is halved after so many epochs without a better loss; 0 never.
        encoder_stop_after: the stage ends after so many; 0 never.
        content_weight: α of the content code's mean squared error, averaged over its dimensions.
        class_weight: α of the class code's.
        betas: decay rates of all Adams.
        eps: ε of all Adams.
        slope: of the LeakyReLUs.
        adain: divides by the root of `variance` + 1e-5, or by the `deviation` + 1e-7.
        initialisation: `glorot` or PyTorch's `default`, of all networks that are not your own.
        skipped_steps: what Adam does with a code in the steps that do not use it: `catch_up`, as
            in both releases, or `ignore`; see `training.row_adam.RowAdam`.
        table_folder: folder for the images' codes and their Adam in mapped files, where they are
            more than memory holds; in memory by default.
        images_per_class: images of one class in a batch of the amortised variants.
        latent_steps: updates by which `without-second-stage` finds the codes of new images.
        leakage_every: epochs of the first stage between two probes of the content codes for the
            class, written to the log (Fig. 7); 0 never.
        generator: your own, called with (class code, content code), giving images.
        class_encoder: your own, images to (N, class_dim).
        content_encoder: your own, images to (N, content_dim), or twice as many, means and then
            log-variances, for a variant with KL.
    """

    def __init__(
        self,
        *,
        scale: Literal["keras", "port", "paper"] = "port",
        variant: Literal[
            "lord",
            "amortised-kl",
            "amortised-noise",
            "semi-kl",
            "semi-noise",
            "without-second-stage",
            "without-regularisation",
        ] = "lord",
        architecture: Literal["lord64", "lord128", "sprites_small"] = "lord64",
        image_shape: tuple[int, int, int] = (3, 64, 64),
        num_labels: int = 183,
        multilabel: bool = False,
        combine: Combine = "sum",
        class_dim: int = 256,
        content_dim: int = 128,
        reconstruction: Literal["vgg16", "efficientnet_lite0", "l1", "mse"] | nn.Module = "vgg16",
        reconstruction_weights: str | None = None,
        sigma: float | None = None,
        decay: float | None = None,
        penalty_on: Literal["clean", "noisy"] | None = None,
        kl_weight: float | None = None,
        batch_size: int | None = None,
        epochs: int | None = None,
        steps: int | None = None,
        stop_after: int | None = None,
        min_delta: float | None = None,
        lr: float | None = None,
        final_lr: float | None = None,
        latent_lr: float | None = None,
        final_latent_lr: float | None = None,
        rate_changes: Literal["per_step", "per_epoch", "constant"] | None = None,
        encoder_epochs: int | None = None,
        encoder_steps: int | None = None,
        encoder_lr: float | None = None,
        encoder_final_lr: float | None = None,
        encoder_rate_changes: Literal["per_step", "per_epoch", "constant"] | None = None,
        encoder_halve_after: int | None = None,
        encoder_stop_after: int | None = None,
        content_weight: float | None = None,
        class_weight: float | None = None,
        betas: tuple[float, float] | None = None,
        eps: float | None = None,
        slope: float | None = None,
        adain: Literal["variance", "deviation"] | None = None,
        initialisation: Literal["glorot", "default"] | None = None,
        skipped_steps: Skipped = "catch_up",
        table_folder: str | None = None,
        images_per_class: int = 4,
        latent_steps: int = 100,
        leakage_every: int = 0,
        generator: nn.Module | None = None,
        class_encoder: nn.Module | None = None,
        content_encoder: nn.Module | None = None,
    ) -> None:
        given = {name: value for name, value in locals().items() if name in Scale._fields}
        super().__init__()
        check_choice(
            variant=(variant, VARIANTS),
            architecture=(architecture, ARCHITECTURES),
            combine=(combine, ("sum", "mean", "concatenation")),
            skipped_steps=(skipped_steps, ("catch_up", "ignore")),
        )
        check_at_least(1, num_labels=num_labels, class_dim=class_dim, content_dim=content_dim)
        optional = {"kl_weight": kl_weight, "steps": steps, "encoder_steps": encoder_steps}
        check_at_least(0, leakage_every=leakage_every, latent_steps=latent_steps)
        check_at_least(0, **{k: v for k, v in optional.items() if v is not None})
        self.variant = VARIANTS[variant]
        self.scale = chosen_scale(scale, self.variant, given)
        self.image_shape, self.num_labels, self.multilabel = image_shape, num_labels, multilabel
        self.class_dim, self.content_dim = class_dim, content_dim
        self.latent_steps, self.table_folder = latent_steps, table_folder
        self.steps, self.encoder_steps = steps, encoder_steps
        self.images_per_class, self.skipped_steps = images_per_class, skipped_steps
        self.kl_weight = 2 * self.scale.decay if kl_weight is None else kl_weight
        self.leakage_every = leakage_every
        self._check_labels(variant)
        self.value_range = (0.0, 1.0) if generator is None else None
        self._reconstruction = (reconstruction, reconstruction_weights)
        # In a tuple, a module stays out of the parameters.
        self._loss: tuple[nn.Module, ...] = ()
        # The codes of the training images are in checkpoints, not in the trained model.
        self.content_codes: tuple[LatentTable, ...] = ()
        self.train_images: LabelledImages | None = None
        self.embeddings: ClassEmbeddings | None = None
        if self.variant.class_code == "embedding":
            self.embeddings = ClassEmbeddings(
                num_labels, class_dim, multilabel=multilabel, combine=combine
            )
        self._make_networks(architecture, generator, class_encoder, content_encoder)

    def _check_labels(self, variant: str) -> None:
        if self.leakage_every:
            check_probe()
        if self.variant.class_code == "encoder":
            check_groups(self.scale.batch_size, self.images_per_class, least=2)
        if not self.multilabel:
            return
        if self.variant.class_code == "encoder":
            raise UserError(
                f"variant {variant} averages the images of a class, and attributes are no classes: "
                "take a variant with embeddings"
            )
        if self.leakage_every:
            raise UserError("leakage_every asks for the class, and multilabel data have none")

    def _make_networks(
        self,
        architecture: str,
        generator: nn.Module | None,
        class_encoder: nn.Module | None,
        content_encoder: nn.Module | None,
    ) -> None:
        shape, sizes, scale = self.image_shape, ARCHITECTURES[architecture], self.scale
        amortises = self.variant.second_stage
        reads_class = amortises or self.variant.class_code == "encoder"
        reads_content = amortises or self.variant.content_code == "encoder"
        own = (generator, class_encoder, content_encoder)
        if None in own and tuple(shape[1:]) != (sizes.side, sizes.side):
            raise UserError(
                f"image_shape {tuple(shape)} does not fit architecture {architecture!r}: its "
                f"images have {sizes.side} x {sizes.side} pixels"
            )
        made: list[nn.Module] = []
        # `is None`, not truth: an empty nn.Sequential is false, and still the user's choice.
        if generator is None:
            generator = LordGenerator(
                shape,
                sizes,
                self.class_dim,
                self.content_dim,
                slope=scale.slope,
                form=scale.adain,
            )
            made.append(generator)
        if reads_class and class_encoder is None:
            class_encoder = LordEncoder(shape, sizes, self.class_dim, slope=scale.slope)
            made.append(class_encoder)
        if reads_content and content_encoder is None:
            size = self.content_dim * (2 if self.variant.regulariser == "kl" else 1)
            content_encoder = LordEncoder(shape, sizes, size, slope=scale.slope)
            made.append(content_encoder)
        if scale.initialisation == "glorot":
            for network in made:
                init_glorot(network)
        self.generator = generator
        self.class_encoder = class_encoder if reads_class else None
        self.content_encoder = content_encoder if reads_content else None
        check_separate(*(m for m in (generator, class_encoder, content_encoder) if m is not None))

    def reconstruction_loss(self) -> nn.Module:
        """Called with (x̂, x); made when it is first asked for, so that drawing needs no weights."""
        if not self._loss:
            name, weights = self._reconstruction
            column = self.scale.column
            self._loss = (reconstruction_loss(name, weights=weights, column=column),)
        return self._loss[0]

    def meet(self, train: LabelledImages) -> None:
        """Makes a code for each training image, and notes which classes they have."""
        self.train_images = train
        if not self.multilabel:
            self._warn_of_single_images(train.labels)
        if self.embeddings is not None:
            self.embeddings.meet(train.labels)
        if self.variant.content_code == "table":
            table = LatentTable(len(train), self.content_dim, folder=self.table_folder)
            self.content_codes = (table,)

    def stages(self) -> list[Stage]:
        """Codes and generator; then, but for the variants without it, the encoders.

        Raises:
            UserError: `meet` was not called before.
        """
        if self.train_images is None:
            raise UserError(
                "LORD has a code for each training image: call meet(splits.train) before stages()"
            )
        scale = self.scale
        epoch = max(1, len(self.train_images) // scale.batch_size)
        plan = Plan(
            scale=scale,
            variant=self.variant,
            steps=scale.epochs * epoch if self.steps is None else self.steps,
            steps_per_epoch=epoch,
            encoder_steps=(
                scale.encoder_epochs * epoch if self.encoder_steps is None else self.encoder_steps
            ),
            kl_weight=self.kl_weight,
            images_per_class=self.images_per_class,
            skipped_steps=self.skipped_steps,
            leakage_every=self.leakage_every,
        )
        first = CodesStage(self, plan)
        return [first, AmortiseStage(self, plan)] if self.variant.second_stage else [first]

    def encode(self, images: Tensor) -> Codes:
        """Images to (class code, content code): by the encoders, or optimised without them.

        A content code with a posterior is its mean.
        """
        if self.class_encoder is None or self.content_encoder is None:
            return self._optimised(images)
        return Codes(self.class_encoder(images), self._content(images)[:, : self.content_dim])

    def decode(self, codes: Codes) -> Tensor:
        """Codes of images, of embeddings or of both, to images."""
        images: Tensor = self.generator(codes.label, codes.residual)
        return images

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor] | None:
        """Mean and log variance of the content code for the variants with KL, None for others."""
        if self.variant.regulariser != "kl":
            return None
        mean, log_variance = self._content(images).chunk(2, dim=1)
        return mean, log_variance

    def class_vectors(self) -> Tensor | None:
        """(num_labels, class_dim) embeddings, NaN for classes that no training image had.

        None for the amortised variants and for attributes, whose codes are of combinations: see
        `class_codes`.
        """
        if self.embeddings is None or self.multilabel:
            return None
        return self.embeddings.vectors()

    def class_codes(self, labels: Tensor) -> Tensor:
        """Classes (N,), or attributes (N, K), to the class codes (N, class_dim) of the embeddings.

        Raises:
            UserError: labels that no training image had, all of them named; a variant without
                embeddings.
        """
        if self.embeddings is None:
            raise UserError("an amortised variant has no embeddings: encode images of the classes")
        self.embeddings.refuse_unseen(labels, self.label_names)
        codes: Tensor = self.embeddings(labels)
        return codes

    def rehearsal(
        self, images: Tensor
    ) -> Iterator[tuple[str, Callable[[], object], tuple[int, ...]]]:
        """Each network, by the names of the arguments."""
        n, shape = len(images), tuple(images.shape)
        kl = self.variant.regulariser == "kl"
        if self.class_encoder is not None:
            yield "class_encoder", lambda: self._class(images), (n, self.class_dim)
        if self.content_encoder is not None:
            size = self.content_dim * (2 if kl else 1)
            yield "content_encoder", lambda: self._content(images), (n, size)
        codes = Codes(images.new_zeros(n, self.class_dim), images.new_zeros(n, self.content_dim))
        yield "generator", lambda: self.decode(codes), shape
        loss = self.reconstruction_loss().to(images.device)
        yield "reconstruction", lambda: loss(self.decode(codes), images), ()

    def _class(self, images: Tensor) -> Tensor:
        assert self.class_encoder is not None
        code: Tensor = self.class_encoder(images)
        return code

    def _content(self, images: Tensor) -> Tensor:
        assert self.content_encoder is not None
        code: Tensor = self.content_encoder(images)
        return code

    def _optimised(self, images: Tensor) -> Codes:
        """From the mean of the trained embeddings, and a content code of 0."""
        assert self.embeddings is not None
        rows = self.embeddings.combined_mean().to(images)
        start = Codes(rows, images.new_zeros(1, self.content_dim))
        return optimised_codes(
            self.generator,
            self.reconstruction_loss().to(images.device),
            images,
            start,
            decay=self.scale.decay,
            steps=self.latent_steps,
            lr=self.scale.latent_lr,
            betas=self.scale.betas,
            eps=self.scale.eps,
        )

    def _warn_of_single_images(self, labels: Tensor) -> None:
        counts = labels.bincount(minlength=self.num_labels)
        single = (counts == 1).nonzero().flatten().tolist()
        if single:
            named = ", ".join(map(str, single[:_NAMED]))
            more = f" and {len(single) - _NAMED} more" if len(single) > _NAMED else ""
            warnings.warn(
                f"classes with a single training image: {named}{more} ({len(single)} in all); "
                "nothing tells such a class from that image's content: leave it out of the data if "
                "you can",
                UserWarning,
                stacklevel=2,
            )
