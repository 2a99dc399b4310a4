"""New classes from old ones by clustering: styles within a class, and super-classes of several.

Both change what LORD takes for the class of an image; each wraps a data source.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from dcorr_models.data.base import DataSource, LabelledImages, Splits, is_unlabelled
from dcorr_models.data.views import relabelled
from dcorr_models.errors import DataError
from dcorr_models.nets.perceptual import efficientnet_lite0, vgg16

__all__ = ["StyleClusters", "SuperClasses", "style_clusters", "style_statistics"]

Features = Callable[[Tensor], Tensor]
_Named = Literal["pixels", "vgg16", "efficientnet_lite0"]
_BATCH = 256


def style_statistics(maps: Tensor) -> Tensor:
    """Mean and standard deviation of each feature map over its pixels: its style.

    Args:
        maps: (N, C, H, W).

    Returns:
        (N, 2C): the means, then the standard deviations (biased).

    Reference:
        Li, Wang, Liu and Hou 2017, "Demystifying neural style transfer": the
        statistics of batch normalisation.

    Example:
        >>> style_statistics(torch.tensor([[[[1.0, 3.0]]]])).tolist()
        [[2.0, 1.0]]
    """
    deviation, mean = torch.std_mean(maps.flatten(2), dim=2, correction=0)
    return torch.cat([mean, deviation], dim=1)


def style_clusters(
    images: Tensor, labels: Tensor, features: Features, styles: int, *, seed: int = 0
) -> Tensor:
    """Joint labels of class and style: k-means of each class by itself on features of its images.

    Args:
        images: (N, C, H, W).
        labels: int64 (N,), classes from 0 on.
        features: φ, images to (N, d), for example `style_statistics` of a network's first layer.
        styles: l, clusters of each class.
        seed: of k-means, which takes the best of ten starts.

    Returns:
        int64 (N,): `class * styles + style`. Images of equal features have one style, so that some
        styles may have no image; scikit-learn then warns.

    Raises:
        DataError: A class with fewer images than styles; it is named.

    Reference:
        Gabbay and Hoshen 2020 (LORD), Algorithm 1.

    Example:
        >>> images = torch.tensor([0.0, 0.1, 0.9, 1.0]).reshape(4, 1, 1, 1)
        >>> labels = style_clusters(images, torch.tensor([1, 1, 1, 1]), lambda x: x.flatten(1), 2)
        >>> sorted(labels.tolist()), bool(labels[0] == labels[1])
        ([2, 2, 3, 3], True)
    """
    found = _features_of(images, features)
    centres = _centres_of_classes(found, labels, styles, seed, None)
    return _nearest_style(found, labels, centres, styles)


class StyleClusters(DataSource):
    """Another data set with its classes divided into styles by k-means (LORD's Algorithm 1).

    Centres are those of the training images; images of the other splits get the nearest of their
    class.

    Args:
        source: the data set, with one class an image.
        styles: clusters of each class; LORD takes 100 for shoes and their edges.
        features: what k-means sees: channels' means and standard deviations over the `pixels`, or
            of the first tap of `vgg16` (LORD) or `efficientnet_lite0`; or a module of yours from
            images to (N, d).
        weights: file of the named network's weights.
        seed: of k-means.
    """

    def __init__(
        self,
        source: DataSource,
        styles: int = 100,
        features: _Named | nn.Module = "vgg16",
        weights: str | None = None,
        seed: int = 0,
    ) -> None:
        _check_source(self, source, styles=styles)
        self.source, self.styles, self.seed = source, styles, seed
        self._chosen = (features, weights)

    @property
    def label_names(self) -> tuple[str, ...]:  # type: ignore[override]  # follows the source's
        """`class, style 1` and so on."""
        names = self.source.label_names
        return tuple(f"{name}, style {k + 1}" for name in names for k in range(self.styles))

    def splits(self) -> Splits:
        """The source's splits with labels of class and style.

        Raises:
            DataError: a class with fewer training images than styles, or none at all.
        """
        parts, phi = _labelled_splits(self), _chosen_features(*self._chosen, self.value_range)
        names = self.source.label_names
        train = _features_of_split(parts.train, phi)
        centres = _centres_of_classes(train, parts.train.labels, self.styles, self.seed, names)
        found = [train, *(_features_of_split(part, phi) for part in parts[1:])]
        for part in parts[1:]:
            unknown = sorted(set(part.labels.tolist()) - centres.keys())
            if unknown:
                raise DataError(
                    f"{self.name}: classes that no training image has have no styles: "
                    f"{', '.join(names[k] for k in unknown[:20])}; split the images of all classes"
                )
        return Splits(
            *(
                relabelled(part, _nearest_style(f, part.labels, centres, self.styles))
                for part, f in zip(parts, found, strict=True)
            )
        )


class SuperClasses(DataSource):
    """Another data set with its classes merged into fewer by k-means (LORD's appendix A.7).

    A class is described by the mean of its images' features. Classes of the training split are
    clustered; the others join the nearest centre.

    Args:
        source: the data set, with one class an image.
        super_classes: how many are left; LORD merges 163 cars into 50.
        features: see `StyleClusters`; the paper does not say what makes two cars similar.
        weights: file of the named network's weights.
        seed: of k-means.
    """

    def __init__(
        self,
        source: DataSource,
        super_classes: int = 50,
        features: _Named | nn.Module = "vgg16",
        weights: str | None = None,
        seed: int = 0,
    ) -> None:
        _check_source(self, source, super_classes=super_classes)
        self.source, self.super_classes, self.seed = source, super_classes, seed
        self._chosen = (features, weights)
        self.label_names = tuple(f"super-class {k + 1}" for k in range(super_classes))

    def splits(self) -> Splits:
        """The source's splits with the classes' clusters as labels.

        Raises:
            DataError: fewer training classes than super-classes.
        """
        parts, phi = _labelled_splits(self), _chosen_features(*self._chosen, self.value_range)
        means: dict[int, npt.NDArray[np.float64]] = {}
        for part in parts:  # a class that training has is described by its training images
            found, labels = _features_of_split(part, phi), part.labels.numpy()
            for k in sorted(set(labels.tolist()) - means.keys()):
                means[k] = found[labels == k].mean(axis=0)
        trained = sorted(set(parts.train.labels.tolist()))
        if len(trained) < self.super_classes:
            raise DataError(
                f"{self.name} has {len(trained)} classes with training images, which cannot be "
                f"merged into {self.super_classes}: set super_classes to fewer"
            )
        model = _k_means(np.stack([means[k] for k in trained]), self.super_classes, self.seed)
        table = torch.zeros(max(means) + 1, dtype=torch.int64)
        for k, mean in means.items():
            table[k] = int(model.predict(mean[None])[0])
        return Splits(*(relabelled(part, table[part.labels]) for part in parts))


def _check_source(own: Any, source: DataSource, **counts: int) -> None:
    """Takes over what a wrapper shares with its source."""
    if source.multilabel:
        raise DataError(f"{source.name} has attributes, and only classes can be clustered")
    for name, count in counts.items():
        if count < 1:
            raise DataError(f"{name} must be 1 or more, got {count}")
    own.image_shape, own.value_range = source.image_shape, source.value_range
    own.name = f"{source.name}, clustered"
    if hasattr(source, "target_names"):
        own.target_names = source.target_names


def _labelled_splits(own: StyleClusters | SuperClasses) -> Splits:
    parts = own.source.splits()
    missing = sum(int(is_unlabelled(part.labels).sum()) for part in parts)
    if missing:
        raise DataError(
            f"{missing} images of {own.source.name} have no label (-1), and clusters are made "
            f"of labelled ones: put PartlyLabelled around {type(own).__name__}, not into it"
        )
    return parts


def _chosen_features(
    chosen: str | nn.Module, weights: str | None, value_range: tuple[float, float]
) -> Features:
    if isinstance(chosen, nn.Module):
        return chosen.eval()
    if chosen == "pixels":
        return style_statistics
    makers = {"vgg16": vgg16, "efficientnet_lite0": efficientnet_lite0}
    if chosen not in makers:
        raise DataError(
            f"features must be pixels, vgg16, efficientnet_lite0 or a module, got {chosen!r}"
        )
    normalisation = {"vgg16": "imagenet", "efficientnet_lite0": "lite"}[chosen]
    taps = makers[chosen](weights, normalisation=normalisation, value_range=value_range)
    return lambda images: style_statistics(taps(images)[0])


@torch.no_grad()
def _features_of(images: Tensor, features: Features) -> npt.NDArray[np.float64]:
    parts = [features(part).double().cpu() for part in torch.split(images, _BATCH)]
    return torch.cat(parts).numpy()


def _features_of_split(split: LabelledImages, features: Features) -> npt.NDArray[np.float64]:
    rows = torch.split(torch.arange(len(split)), _BATCH)
    if not len(split):
        return np.empty((0, 0))
    return np.concatenate(
        [_features_of(split.__getitems__(part.tolist())["image"], features) for part in rows]
    )


def _centres_of_classes(
    found: npt.NDArray[np.float64],
    labels: Tensor,
    styles: int,
    seed: int,
    names: Sequence[str] | None,
) -> dict[int, Any]:
    """A fitted k-means for each class."""
    classes = labels.numpy()
    small = [k for k in sorted(set(classes.tolist())) if (classes == k).sum() < styles]
    if small:
        listed = ", ".join(
            f"{k if names is None else names[k]} ({(classes == k).sum()})" for k in small[:20]
        )
        raise DataError(
            f"{styles} styles need as many images of every class, and classes have fewer: "
            f"{listed}; set styles to fewer"
        )
    return {k: _k_means(found[classes == k], styles, seed) for k in sorted(set(classes.tolist()))}


def _nearest_style(
    found: npt.NDArray[np.float64], labels: Tensor, centres: dict[int, Any], styles: int
) -> Tensor:
    classes, joint = labels.numpy(), np.zeros(len(labels), dtype=np.int64)
    for k in set(classes.tolist()):
        joint[classes == k] = k * styles + centres[k].predict(found[classes == k])
    return torch.from_numpy(joint)


def _k_means(rows: npt.NDArray[np.float64], clusters: int, seed: int) -> Any:
    from sklearn.cluster import KMeans

    return KMeans(clusters, n_init=10, random_state=seed).fit(rows)
