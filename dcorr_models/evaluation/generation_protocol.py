"""What the evaluation of drawn images leaves to choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from dcorr_models.errors import UserError
from dcorr_models.methods.checks import check_at_least

__all__ = ["GenerationProtocol"]


@dataclass(frozen=True)
class GenerationProtocol:
    """How many images of each class are drawn, and what they are measured by; None stands for all.

    Args:
        samples: images drawn of each class. Lr-LiVAE takes 100 of FaceScrub, 500 of CIFAR-10.
        splits: parts of the Inception score, each with a p(y) of its own; Lr-LiVAE names none.
        classifier_epochs: passes of the judging classifier over the real training images.
        diversity_images: images of each class whose pairs are compared, real ones as well.
        features: what the Fréchet distance reads: the judging `classifier` before its last layer,
            `efficientnet_lite0` (ImageNet, extra `perceptual`), the `pixels` themselves, or a
            module of yours from images in the data's range to (N, F). Its name stands beside the
            number; none of these makes it FID.
        probe_images: training images whose content codes the leakage probes learn from at most.
        purity_images: test images whose class codes are clustered at most.
        neighbours: of a class code, whose classes are compared with its own.
        bins: of the axis of each class, where images are points.

    Raises:
        UserError: a number that is too small.
    """

    samples: int = 100
    splits: int = 1
    classifier_epochs: int = 8
    diversity_images: int | None = 50
    features: Literal["classifier", "efficientnet_lite0", "pixels"] | nn.Module = "classifier"
    probe_images: int | None = 10_000
    purity_images: int | None = 5_000
    neighbours: int = 10
    bins: int = 20

    def __post_init__(self) -> None:
        check_at_least(
            1,
            splits=self.splits,
            classifier_epochs=self.classifier_epochs,
            neighbours=self.neighbours,
        )
        pairs = {
            "samples": self.samples,
            "diversity_images": self.diversity_images,
            "probe_images": self.probe_images,
            "purity_images": self.purity_images,
            "bins": self.bins,
        }
        check_at_least(2, **{name: n for name, n in pairs.items() if n is not None})
        if self.splits > self.samples:
            raise UserError(
                f"splits must be at most the {self.samples} samples of a class, got {self.splits}"
            )
