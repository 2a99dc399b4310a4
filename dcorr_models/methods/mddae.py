"""mddAE: an auto-encoder whose two codes are decorrelated, trained jointly; and its baselines.

Song, Koyejo and Zhang 2019, "Learning controllable disentangled representations with decorrelation
regularization" (arXiv 1912.11675). Every departure is listed in `docs/methods/mddae.md`.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Adam

from dcorr_models.errors import UserError
from dcorr_models.methods.checks import check_at_least, check_choice
from dcorr_models.methods.one_encoder import DecoderInput, OneEncoder, class_loss
from dcorr_models.methods.regularisers import for_processes
from dcorr_models.metrics.image_quality import ms_ssim_weights
from dcorr_models.training.dssim import dssim
from dcorr_models.training.optimizers import parameters_of
from dcorr_models.training.stage import Batch, Stage, weighted_sum

__all__ = ["VARIANTS", "JointStage", "MddAE"]


class Variant(NamedTuple):
    """What tells the paper's five models apart; see the arguments of `MddAE`."""

    decoder_input: DecoderInput
    decorrelation: Literal["dcov2", "xcov", "none"]
    class_weight: float
    dssim_weight: float


VARIANTS = {
    "AE": Variant("none", "none", 0.0, 0.0),
    "disAE": Variant("discrete", "none", 1.0, 0.0),
    "disAE-XCov": Variant("discrete", "xcov", 1.0, 0.0),
    "mddAE-XCov": Variant("soft", "xcov", 1.0, 1.0),
    "mddAE-dCov": Variant("soft", "dcov2", 1.0, 1.0),
}
"""The models of the paper's Table 1, in its order."""

# From here on three scales of MS-SSIM fit; the paper finds MNIST's 28 pixels too few for the loss.
_SMALLEST_DSSIM_SIDE = 44


class MddAE(OneEncoder):
    """mddAE (Song et al. 2019) and its baselines, with the settings of the MNIST experiment.

    The loss is `L_mse + α L_dssim + β L_dis + γ L_dec` (Eqs. 1 and 7), for encoder and decoder
    together. `variant` names one of the paper's five models, and the four arguments after it are
    what the variants differ in: each that is given takes the place of the variant's.

    Args:
        variant: `AE`, `disAE`, `disAE-XCov` (Cheung et al. 2014), `mddAE-XCov` or `mddAE-dCov`.
        decoder_input: what the decoder is given beside z: the soft target ŷ (`soft`: mddAE), the
            true label in training and the encoder's decision afterwards (`discrete`: disAE), or
            nothing (`none`: AE), and then the code of `num_labels + latent_dim` numbers is not
            divided.
        decorrelation: L_dec: `dcov2` (Eq. 14), `xcov` (Eq. 15), `none`, or any callable or module
            of (ŷ, z) with a scalar result. With several processes the first two are those of the
            global batch; a module of `dcorr` is with `group="world"`, anything else sees each
            process's share.
        class_weight: β, weight of the cross-entropy L_dis (Eqs. 8 and 9).
        dssim_weight: α, weight of the structural dissimilarity (Eq. 6). The variant's is 1 for
            mddAE, but 0 for images under 44 pixels, which is the paper's choice for MNIST; 0 for
            the baselines. Images are taken to lie in the range of the architecture's own decoder.
        architecture: sizes of the networks: `mnist` (28x28x1) and `celeba` (64x64x3) of the
            release of CDNet, `faces_small` (64x64x3) for a CPU.
        image_shape: channels, height and width of the images.
        num_labels: classes, or attributes of a multilabel problem.
        multilabel: labels are attribute vectors: sigmoid and binary cross-entropy instead of
            softmax and cross-entropy.
        latent_dim: size of the residual code z.
        dropout: rate in the dense layers of the encoder.
        decorrelation_weight: γ.
        decorrelation_gradient: what L_dec trains: `both` codes, as in the paper, or only the
            `residual` code z, ŷ being a constant in it, as in CDNet.
        pixel_reduction: L_mse as the `mean` over an image's values, or as their `sum`, as Eq. 2 is
            printed. Both are averaged over the batch.
        ssim_weights: weights of the scales of MS-SSIM, the finest first; by default the first ones
            of the published five that fit the images, divided by their sum: 3 at 64 pixels.
        batch_size: images of an update.
        steps: updates.
        lr: learning rate of Adam.
        betas: Adam's decay rates of the two moments.
        encoder: your own encoder, images to (N, num_labels + latent_dim).
        decoder: your own decoder, called with (label code, z), giving images.
    """

    def __init__(
        self,
        *,
        variant: Literal["AE", "disAE", "disAE-XCov", "mddAE-XCov", "mddAE-dCov"] = "mddAE-dCov",
        decoder_input: Literal["soft", "discrete", "none"] | None = None,
        decorrelation: Literal["dcov2", "xcov", "none"] | nn.Module | None = None,
        class_weight: float | None = None,
        dssim_weight: float | None = None,
        architecture: Literal["mnist", "celeba", "faces_small"] = "mnist",
        image_shape: tuple[int, int, int] = (1, 28, 28),
        num_labels: int = 10,
        multilabel: bool = False,
        latent_dim: int = 10,
        dropout: float = 0.25,
        decorrelation_weight: float = 5.0,
        decorrelation_gradient: Literal["both", "residual"] = "both",
        pixel_reduction: Literal["mean", "sum"] = "mean",
        ssim_weights: tuple[float, ...] | None = None,
        batch_size: int = 100,
        steps: int = 75_000,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
    ) -> None:
        check_choice(
            variant=(variant, VARIANTS),
            decorrelation_gradient=(decorrelation_gradient, ("both", "residual")),
            pixel_reduction=(pixel_reduction, ("mean", "sum")),
        )
        chosen = VARIANTS[variant]
        super().__init__(
            architecture=architecture,
            image_shape=image_shape,
            num_labels=num_labels,
            multilabel=multilabel,
            latent_dim=latent_dim,
            dropout=dropout,
            decoder_input=decoder_input or chosen.decoder_input,
            # `is None`, not truth: an empty nn.Sequential is false, and still the user's choice.
            decorrelation=chosen.decorrelation if decorrelation is None else decorrelation,
            decorrelation_weight=decorrelation_weight,
            encoder=encoder,
            decoder=decoder,
        )
        if class_weight is None:
            class_weight = chosen.class_weight
        if dssim_weight is None:
            fits = min(image_shape[1:]) >= _SMALLEST_DSSIM_SIDE
            dssim_weight = chosen.dssim_weight if fits else 0.0
        check_at_least(0, class_weight=class_weight, dssim_weight=dssim_weight, steps=steps, lr=lr)
        check_at_least(1, batch_size=batch_size)
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise UserError(f"betas must be two numbers in [0, 1), got {tuple(betas)}")
        if not self.has_label_code and (class_weight or self.decorrelation.loss is not None):
            raise UserError(
                'decoder_input="none" leaves the code undivided, without a ŷ to classify or to '
                'decorrelate: set class_weight to 0 and decorrelation to "none"'
            )
        self.step_settings = StepSettings(
            weights={
                "pixel": 1.0,
                "dssim": dssim_weight,
                "class": class_weight,
                "decorrelation": decorrelation_weight,
            },
            ssim_weights=_checked_scales(ssim_weights, image_shape) if dssim_weight else None,
            soft_target_decorrelates=decorrelation_gradient == "both",
            pixel_sum=pixel_reduction == "sum",
            steps=steps,
            batch_size=batch_size,
            lr=lr,
            betas=(betas[0], betas[1]),
        )

    def stages(self) -> list[Stage]:
        """One: encoder and decoder together."""
        return [JointStage(self)]


class StepSettings(NamedTuple):
    """What one update needs to know; see the arguments of `MddAE`."""

    weights: dict[str, float]
    ssim_weights: tuple[float, ...] | None
    soft_target_decorrelates: bool
    pixel_sum: bool
    steps: int
    batch_size: int
    lr: float
    betas: tuple[float, float]


class JointStage(Stage):
    """Encoder and decoder learn together, by one loss and one optimizer."""

    def __init__(self, model: MddAE) -> None:
        settings = model.step_settings
        learning = parameters_of(model.encoder, model.decoder)
        super().__init__(
            "joint",
            networks={"encoder": model.encoder, "decoder": model.decoder},
            optimizers={"autoencoder": Adam(learning, lr=settings.lr, betas=settings.betas)},
            max_steps=settings.steps,
            batch_size=settings.batch_size,
        )
        self.model = model
        self.settings = settings
        self.regulariser = model.decorrelation.loss

    def setup(self, fabric: Fabric) -> None:
        """Hands the networks to Fabric; several processes regularise their global batch."""
        super().setup(fabric)
        self.regulariser = for_processes(self.model.decorrelation.loss, fabric)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One update of encoder and decoder."""
        x, model = batch["image"], self.model
        code = self.networks["encoder"](x)
        logs: dict[str, Tensor] = {}
        if model.has_label_code:
            logits, z = model.split(code)
            y_hat = model.soft_target(logits)
            discrete = model.decoder_input == "discrete"
            label = model.as_code(batch["label"], y_hat.dtype) if discrete else y_hat
            x_hat = self.networks["decoder"](label, z)
            class_term, logs["accuracy"] = class_loss(
                logits, batch["label"], multilabel=model.multilabel
            )
            terms = {**self._reconstruction(x, x_hat), "class": class_term}
            terms |= self._decorrelation(y_hat, z)
        else:
            terms = self._reconstruction(x, self.networks["decoder"](code[:, :0], code))
        self.update("autoencoder", weighted_sum(terms, self.settings.weights))
        return {**{f"loss/{name}": term.detach() for name, term in terms.items()}, **logs}

    def _reconstruction(self, x: Tensor, x_hat: Tensor) -> dict[str, Tensor]:
        settings = self.settings
        pixel = F.mse_loss(x_hat, x)
        terms = {"pixel": pixel * x[0].numel() if settings.pixel_sum else pixel}
        if settings.ssim_weights is not None:
            value_range = self.model.architecture_range
            terms["dssim"] = dssim(x, x_hat, value_range=value_range, weights=settings.ssim_weights)
        return terms

    def _decorrelation(self, y_hat: Tensor, z: Tensor) -> dict[str, Tensor]:
        if self.regulariser is None:
            return {}
        if not self.settings.soft_target_decorrelates:
            y_hat = y_hat.detach()
        return {"decorrelation": self.regulariser(y_hat, z)}


def _checked_scales(
    weights: tuple[float, ...] | None, image_shape: tuple[int, int, int]
) -> tuple[float, ...]:
    side = min(image_shape[1:])
    try:
        if weights is None:
            return ms_ssim_weights(side)
    except ValueError as error:
        raise UserError(f"{error}: set dssim_weight to 0") from error
    most = len(ms_ssim_weights(side))
    if not 1 <= len(weights) <= most or not all(weight >= 0 for weight in weights):
        raise UserError(
            f"ssim_weights must be 1 to {most} numbers of 0 or more for images of side {side}, "
            f"got {tuple(weights)}"
        )
    return tuple(weights)
