"""Networks that the Fréchet distance reads images with, each with its name."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dcorr_models.errors import UserError
from dcorr_models.metrics.recognition import Classifier
from dcorr_models.pictures import is_point

__all__ = ["check_features", "feature_network", "read_features"]

_BATCH = 256


def feature_network(
    features: str | nn.Module,
    classifier: Classifier | None,
    value_range: tuple[float, float] | None,
) -> tuple[nn.Module, str]:
    """A network from images to features, and what tables call it.

    Args:
        features: see `GenerationProtocol` and `DisentanglementProtocol`.
        classifier: for the features of that name.
        value_range: of the images; None for points.

    Raises:
        UserError: the packages of efficientnet_lite0, or torchvision, are not installed.
    """
    if isinstance(features, nn.Module):
        return features.eval(), str(getattr(features, "name", type(features).__name__))
    if features == "classifier":
        assert classifier is not None, "who asks for its features has trained it"
        layers = list(classifier.network.children())[:-1]
        return nn.Sequential(*layers), "ConvNet trained on these data, before its last layer"
    if features == "efficientnet_lite0":
        from dcorr_models.nets.perceptual import efficientnet_lite0

        assert value_range is not None, "points are no images for it"
        network = efficientnet_lite0(value_range=value_range)
        return nn.Sequential(network, _LastMean()), f"{network.name}, mean of its last features"
    if features == "inception_v3":
        from dcorr_models.nets.inception import inception_v3

        assert value_range is not None, "points are no images for it"
        inception = inception_v3(value_range=value_range)
        return inception, inception.name
    return nn.Flatten(), "pixels"


def check_features(
    features: str | nn.Module, shape: tuple[int, ...], value_range: tuple[float, float]
) -> None:
    """Tries the network on two images, before minutes of measuring rather than after.

    Args:
        features: see `GenerationProtocol`.
        shape: of an image, (C, H, W).
        value_range: of the images.

    Raises:
        UserError: packages are missing, or the network cannot read images of this shape.
    """
    if isinstance(features, str) and (features != "efficientnet_lite0" or is_point(shape)):
        return
    network, name = feature_network(features, None, value_range)
    try:
        read_features(network, torch.full((2, *shape), value_range[0]), value_range)
    except Exception as error:  # whatever a user's module may raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"the features {name} cannot be read from images of shape {shape}: {reason}; choose "
            "others (--generation.features)"
        ) from error


@torch.no_grad()
def read_features(
    network: nn.Module, images: Tensor, value_range: tuple[float, float] | None
) -> Tensor:
    """(N, F) on the CPU, of images clamped to their range as a picture file would."""
    first = next(network.parameters(), None)
    device = images.device if first is None else first.device
    found = []
    for part in torch.split(images, _BATCH):
        given = part.to(device, torch.float32)
        found.append(network(given if value_range is None else given.clamp(*value_range)))
    return torch.cat(found).flatten(1).cpu()


class _LastMean(nn.Module):
    """The last feature maps, averaged over their places."""

    def forward(self, maps: list[Tensor]) -> Tensor:
        return maps[-1].mean(dim=(2, 3))
