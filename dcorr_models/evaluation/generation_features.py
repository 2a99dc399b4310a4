"""Networks that the Fréchet distance reads images with, each with its name."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dcorr_models.metrics.recognition import Classifier

__all__ = ["feature_network", "read_features"]

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
