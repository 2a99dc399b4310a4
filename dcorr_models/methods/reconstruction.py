"""The error of a rival's reconstructions: its own, or one by which methods are compared."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from dcorr_models.methods.checks import check_choice
from dcorr_models.training.perceptual import reconstruction_loss
from dcorr_models.training.stage import Stage

__all__ = ["Reconstruction", "ReconstructionName", "error_of"]

ReconstructionName = Literal["published", "l1", "mse", "vgg16", "efficientnet_lite0"]
NAMES = ("published", "l1", "mse", "vgg16", "efficientnet_lite0")


class Reconstruction:
    """A method's arguments `reconstruction` and `reconstruction_weights`.

    Not a module, so that what it holds stays out of the method's weights; and the loss is made
    when a training asks for it, so that a finished run is loaded without the weights of VGG-16.

    Args:
        choice: a name in `NAMES`, or a module, see `training.perceptual.reconstruction_loss`.
        weights: a file, or a name, for the networks among them.
        published: the name that `published` stands for; None where the method has a loss of its
            own.

    Raises:
        UserError: an unknown name.

    Example:
        >>> Reconstruction("published", None, published="mse").loss().name
        'pixel MSE'
    """

    def __init__(
        self,
        choice: ReconstructionName | nn.Module,
        weights: str | None,
        *,
        published: Literal["mse"] | None,
    ) -> None:
        if not isinstance(choice, nn.Module):
            check_choice(reconstruction=(choice, NAMES))
        self.choice = published if choice == "published" else choice
        self.weights = weights

    def loss(self) -> nn.Module | None:
        """The loss, called with (x̂, x); None for the method's own.

        Raises:
            UserError: a network without weights.
        """
        if self.choice is None:
            return None
        return reconstruction_loss(self.choice, weights=self.weights)


def error_of(stage: Stage, x_hat: Tensor, x: Tensor) -> Tensor:
    """The scalar loss of a stage's fixed network `reconstruction`, in the precision of the run."""
    assert stage.fabric is not None, "setup() comes before error_of()"
    with stage.fabric.autocast():
        error: Tensor = stage.fixed["reconstruction"](x_hat, x.to(x_hat.dtype))
    return error
