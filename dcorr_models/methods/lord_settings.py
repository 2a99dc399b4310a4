"""The published numbers of LORD: one whole column for each source, never mixed."""

from __future__ import annotations

from typing import Literal, NamedTuple

from dcorr_models.errors import UserError
from dcorr_models.methods.checks import check_at_least, check_betas, check_choice
from dcorr_models.nets.lord import Adain

__all__ = ["SCALES", "VARIANTS", "Scale", "Variant", "chosen_scale"]

Changes = Literal["per_step", "per_epoch", "constant"]
Initial = Literal["glorot", "default"]


class Scale(NamedTuple):
    """Every number that the sources differ in."""

    column: Literal["keras", "port"]
    """Reconstruction loss: see `training.perceptual.COLUMNS`."""
    sigma: float
    decay: float
    penalty_on: Literal["clean", "noisy"]
    batch_size: int
    epochs: int
    stop_after: int
    """Epochs without a better mean loss after which the first stage ends; 0 never."""
    min_delta: float
    lr: float
    final_lr: float
    latent_lr: float
    final_latent_lr: float
    rate_changes: Changes
    encoder_epochs: int
    encoder_lr: float
    encoder_final_lr: float
    encoder_rate_changes: Changes
    encoder_halve_after: int
    encoder_stop_after: int
    content_weight: float
    class_weight: float
    betas: tuple[float, float]
    eps: float
    slope: float
    adain: Adain
    initialisation: Initial


_KERAS = Scale(
    column="keras",
    sigma=1.0,
    decay=1e-3,
    penalty_on="clean",
    batch_size=64,
    epochs=1000,
    stop_after=100,
    min_delta=1.0,
    lr=3e-4,
    final_lr=1e-5,
    latent_lr=3e-3,
    final_latent_lr=1e-4,
    rate_changes="per_epoch",
    encoder_epochs=200,
    encoder_lr=1e-4,
    encoder_final_lr=1e-4,
    encoder_rate_changes="constant",
    encoder_halve_after=20,
    encoder_stop_after=40,
    content_weight=1e4,
    class_weight=1e4,
    betas=(0.5, 0.999),
    eps=1e-7,
    slope=0.3,
    adain="deviation",
    initialisation="glorot",
)

SCALES = {
    "keras": _KERAS,
    "port": Scale(
        column="port",
        sigma=1.0,
        decay=1e-4,
        penalty_on="noisy",
        batch_size=128,
        epochs=200,
        stop_after=0,
        min_delta=0.0,
        lr=3e-4,
        final_lr=1e-5,
        latent_lr=3e-3,
        final_latent_lr=1e-5,
        rate_changes="per_step",
        encoder_epochs=200,
        encoder_lr=1e-4,
        encoder_final_lr=1e-5,
        encoder_rate_changes="per_step",
        encoder_halve_after=0,
        encoder_stop_after=0,
        content_weight=10.0,
        class_weight=10.0,
        betas=(0.5, 0.999),
        eps=1e-8,
        slope=0.01,
        adain="variance",
        initialisation="default",
    ),
    # The paper's appendix A.1; what it does not say is the Keras release's, in whose scale of the
    # loss its table 5 is (total less reconstruction is 1e-3 times the penalty).
    "paper": _KERAS._replace(
        epochs=200,
        stop_after=0,
        lr=1e-4,
        final_lr=1e-4,
        latent_lr=1e-3,
        final_latent_lr=1e-3,
        rate_changes="constant",
    ),
}
"""The authors' Keras release, their PyTorch port, and the paper."""


class Variant(NamedTuple):
    """What tells the models of the paper's Table 3 apart."""

    class_code: Literal["embedding", "encoder"]
    content_code: Literal["table", "encoder"]
    regulariser: Literal["noise", "kl", "none"]
    second_stage: bool


VARIANTS = {
    "amortised-kl": Variant("encoder", "encoder", "kl", False),
    "amortised-noise": Variant("encoder", "encoder", "noise", False),
    "semi-kl": Variant("embedding", "encoder", "kl", True),
    "semi-noise": Variant("embedding", "encoder", "noise", True),
    "without-second-stage": Variant("embedding", "table", "noise", False),
    "without-regularisation": Variant("embedding", "table", "none", True),
    "lord": Variant("embedding", "table", "noise", True),
}
"""The models of the paper's Table 3, in its order."""


def chosen_scale(name: str, variant: Variant, given: dict[str, object]) -> Scale:
    """The named column, with the values that are given in place of its own.

    Args:
        name: of the column.
        variant: one without a regulariser has no noise and no penalty.
        given: by the names in `Scale`; None for those that stay.

    Example:
        >>> chosen_scale("port", VARIANTS["lord"], {"decay": 0.5, "lr": None}).decay
        0.5
    """
    check_choice(scale=(name, SCALES))
    scale = SCALES[name]
    if variant.regulariser == "none":
        scale = scale._replace(sigma=0.0, decay=0.0)
    own = {key: value for key, value in given.items() if value is not None}
    scale = Scale(**(scale._asdict() | own))
    if variant.regulariser == "none" and (scale.sigma or scale.decay):
        raise UserError(
            "variant without-regularisation has neither noise nor penalty: leave sigma and decay "
            "out, or take variant lord"
        )
    return _checked(scale)


def _checked(scale: Scale) -> Scale:
    values = scale._asdict()
    words = ("penalty_on", "rate_changes", "encoder_rate_changes", "adain", "initialisation")
    rates = ("per_step", "per_epoch", "constant")
    known = (("clean", "noisy"), rates, rates, ("variance", "deviation"), ("glorot", "default"))
    check_choice(**{word: (values[word], k) for word, k in zip(words, known, strict=True)})
    check_betas(scale.betas)
    check_at_least(1, batch_size=scale.batch_size)
    numbers = {k: v for k, v in values.items() if isinstance(v, (int, float))}
    check_at_least(0, **numbers)
    return scale
