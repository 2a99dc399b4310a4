"""The evaluation of methods that draw images of a class: Lr-LiVAE and its rivals."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dcorr_models import editing
from dcorr_models.data.base import LabelledImages, Splits
from dcorr_models.data.views import labelled_part
from dcorr_models.errors import UserError
from dcorr_models.evaluation.common import decode, encode, some_rows
from dcorr_models.evaluation.generation_features import feature_network, read_features
from dcorr_models.evaluation.generation_protocol import GenerationProtocol
from dcorr_models.methods.base import Codes
from dcorr_models.methods.class_conditional import ClassConditional
from dcorr_models.metrics.axis_coverage import axis_coverage
from dcorr_models.metrics.class_purity import ClassPurity, class_purity
from dcorr_models.metrics.convnet import in_chunks
from dcorr_models.metrics.frechet_distance import frechet_distance
from dcorr_models.metrics.inception_score import inception_score
from dcorr_models.metrics.intra_class_diversity import intra_class_diversity
from dcorr_models.metrics.leakage import Leakage, leakage
from dcorr_models.metrics.recognition import Classifier, recognition_rate, train_classifier
from dcorr_models.pictures import is_point

__all__ = [
    "Drawn",
    "class_code_purity",
    "content_leakage",
    "draw_samples",
    "judging_classifier",
    "measure_samples",
]

_BATCH = 256
_SMALLEST_SIDE = 4  # of the judging classifier
_DIVERSE_SIDE = 11  # of MS-SSIM


class Drawn(NamedTuple):
    """Images on the CPU and the class of each."""

    images: Tensor  # (N, C, H, W)
    labels: Tensor  # int64 (N,)


class _Judged(NamedTuple):
    """What is compared with each other."""

    samples: Drawn
    train: Drawn  # real training images, of each class as many as were drawn, or all
    test: Drawn
    value_range: tuple[float, float] | None  # None: points, of which nothing is cut off


def draw_samples(method: ClassConditional, classes: Tensor, count: int, *, seed: int) -> Drawn:
    """`count` images of each class, class by class, from one generator.

    Raises:
        UserError: they hold NaN or infinity.
    """
    device = next(method.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    labels = classes.repeat_interleave(count)
    with editing.inference(method):
        parts = [
            method.sample(part.to(device), generator=generator).cpu()
            for part in torch.split(labels, _BATCH)
        ]
    images = torch.cat(parts)
    if not images.isfinite().all():
        raise UserError(
            f"images drawn by this {type(method).__name__} hold NaN or infinity: its weights are "
            "broken"
        )
    return Drawn(images, labels)


def class_code_purity(
    method: ClassConditional, test: LabelledImages, protocol: GenerationProtocol, *, seed: int
) -> ClassPurity:
    """`purity` of evaluation.json: do the class codes of test images fall into clusters?"""
    rows = some_rows(test, protocol.purity_images, seed=seed)
    codes = encode(method, test, rows).label
    labels = test.labels[rows]
    # a code has no more neighbours of its own class than its class has other codes
    fewest = int(torch.unique(labels, return_counts=True)[1].min())
    near = max(1, min(protocol.neighbours, fewest - 1))
    return class_purity(codes, labels, neighbours=near, seed=seed)


def content_leakage(
    method: ClassConditional, splits: Splits, protocol: GenerationProtocol, *, seed: int
) -> Leakage:
    """The class read from content codes, by the probes that methods without class vectors have."""
    rows = some_rows(splits.train, protocol.probe_images, seed=seed)
    learn, score = (
        encode(method, split, chosen).residual
        for split, chosen in ((splits.train, rows), (splits.test, torch.arange(len(splits.test))))
    )
    return leakage(learn, splits.train.labels[rows], score, splits.test.labels, seed=seed)


def judging_classifier(
    splits: Splits, protocol: GenerationProtocol, *, seed: int
) -> Classifier | None:
    """One classifier of the real images for all that is judged; None where they are too small."""
    if is_point(splits.test.images.shape) or min(splits.test.images.shape[2:]) < _SMALLEST_SIDE:
        return None
    return train_classifier(
        labelled_part(splits.train),
        held_out=splits.test,
        epochs=protocol.classifier_epochs,
        seed=seed,
    )


def measure_samples(
    method: ClassConditional,
    splits: Splits,
    protocol: GenerationProtocol,
    *,
    seed: int,
    classifier: Classifier | None = None,
) -> dict[str, Any]:
    """`generation` of evaluation.json: drawn images against real test images.

    Images are drawn of the classes that the method knows and that have training and test images.
    Beside each number stands what real training images have, as many of each class.
    """
    train, test = labelled_part(splits.train), splits.test
    classes, left_out = _classes(method, train, test)
    samples = draw_samples(method, classes, protocol.samples, seed=seed)
    skipped: dict[str, str] = {}
    if left_out:
        why = "not known to the method, or without a training or test image"
        skipped["classes"] = f"{left_out}: {why}"
    value_range = None if is_point(test.images.shape) else test.value_range
    judged = _Judged(
        samples, _first(train, classes, protocol.samples), _first(test, classes), value_range
    )
    if value_range is None:
        measured = _points(judged, protocol, skipped)
    else:
        classifier = classifier or judging_classifier(splits, protocol, seed=seed)
        measured = _images(method, splits, judged, classifier, protocol, skipped, seed=seed)
    return {
        "samples_from": method.samples_from,
        "samples_per_class": protocol.samples,
        "classes": len(classes),
        "seed": seed,
        **measured,
        "skipped": skipped,
    }


def _points(
    judged: _Judged, protocol: GenerationProtocol, skipped: dict[str, str]
) -> dict[str, Any]:
    """Coverage of each class's axis, and the Fréchet distance of the points themselves."""
    features = protocol.features if isinstance(protocol.features, nn.Module) else "pixels"
    result = {"frechet": _frechet(judged, features, None)}
    skipped["inception, recognised and diversity"] = "points are no images"
    test = judged.test
    fewest = int(torch.unique(test.labels, return_counts=True)[1].min())
    if fewest < protocol.bins:
        skipped["coverage"] = f"a class has {fewest} test points, fewer than the bins"
        return result
    found, real = (
        axis_coverage(
            test.images.flatten(1),
            test.labels,
            points.images.flatten(1),
            points.labels,
            bins=protocol.bins,
        )
        for points in (judged.samples, judged.train)
    )
    of_real = {"of_real": real["coverage"], "wasserstein_of_real": real["wasserstein"]}
    return {**result, "coverage": {**found, **of_real}}


def _images(
    method: ClassConditional,
    splits: Splits,
    judged: _Judged,
    classifier: Classifier | None,
    protocol: GenerationProtocol,
    skipped: dict[str, str],
    *,
    seed: int,
) -> dict[str, Any]:
    """What a classifier of real images says of the drawn ones, their diversity and distance."""
    result: dict[str, Any] = {}
    side = min(judged.samples.images.shape[2:])
    if side >= _DIVERSE_SIDE:
        result["diversity"] = _diversity(judged, protocol, skipped)
    else:
        skipped["diversity"] = f"MS-SSIM needs sides of {_DIVERSE_SIDE} pixels, got {side}"
    if classifier is None:
        words = f"the classifier needs sides of {_SMALLEST_SIDE} pixels, got {side}"
        skipped["inception and recognised"] = words
        if protocol.features == "classifier":
            skipped["frechet"] = f"{words}; choose other features"
            return result
        return {**result, "frechet": _frechet(judged, protocol.features, None)}
    result["classifier"] = {
        "accuracy": classifier.accuracy,
        "images": classifier.train_images,
        "epochs": protocol.classifier_epochs,
    }
    result["inception"] = _inception(judged, classifier, protocol, seed=seed)
    result["recognised"] = _recognised(judged.samples, classifier)
    if method.has_encoder and method.has_class_vectors:
        train = labelled_part(splits.train)
        unseen = _from_images(method, train, splits.test, classifier, protocol, seed=seed)
        result |= {"from_images": unseen} if unseen else {}
    return {**result, "frechet": _frechet(judged, protocol.features, classifier)}


def _inception(
    judged: _Judged, classifier: Classifier, protocol: GenerationProtocol, *, seed: int
) -> dict[str, Any]:
    """With the score of real training images, as many of each class."""
    found, real = (
        inception_score(
            torch.cat(list(in_chunks(classifier.network, part.images, classifier.value_range))),
            splits=min(protocol.splits, len(part.images)),
            seed=seed,
        )
        for part in (judged.samples, judged.train)
    )
    return {**found, "of_real": real["score"], "real_samples": real["samples"]}


def _recognised(samples: Drawn, classifier: Classifier) -> dict[str, Any]:
    """How often the classifier takes a drawn image for the class that was asked for."""
    images, labels = samples
    classes = torch.unique(labels).tolist()
    per_class = [
        recognition_rate(classifier, images[labels == k], labels[labels == k]) for k in classes
    ]
    return {
        "rate": recognition_rate(classifier, images, labels),
        "per_class": per_class,
        "classes": classes,
        "images": len(images),
    }


def _from_images(
    method: ClassConditional,
    train: LabelledImages,
    test: LabelledImages,
    classifier: Classifier,
    protocol: GenerationProtocol,
    *,
    seed: int,
) -> dict[str, Any]:
    """Images of classes that the method cannot draw: a test image's class code, another content.

    The content code is drawn from its prior, the standard normal. The same for the classes that it
    knows stands beside it; nothing where it knows all that the classifier and the test split know.
    """
    tested = torch.unique(test.labels)
    tested = tested[torch.isin(tested, train.labels)]
    is_known = torch.isin(tested, method.known_classes())
    if bool(is_known.all()):
        return {}
    result = {}
    for name, classes in (("unseen", tested[~is_known]), ("known", tested[is_known])):
        rows = _first_rows(test, classes, protocol.samples)
        codes = encode(method, test, rows)
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(codes.residual.shape, generator=generator)
        drawn = Drawn(decode(method, Codes(codes.label, noise)), test.labels[rows])
        result[name] = _recognised(drawn, classifier)
    return result


def _diversity(
    judged: _Judged, protocol: GenerationProtocol, skipped: dict[str, str]
) -> dict[str, Any]:
    assert judged.value_range is not None, "points have no structures to compare"
    found = intra_class_diversity(
        *judged.samples, value_range=judged.value_range, max_images=protocol.diversity_images
    )
    if int(torch.unique(judged.train.labels, return_counts=True)[1].min()) < 2:
        skipped["diversity of real images"] = "a class has one training image"
        return dict(found)
    real = intra_class_diversity(
        *judged.train, value_range=judged.value_range, max_images=found["images_a_class"]
    )
    return {**found, "of_real": real["mean"], "real_images_a_class": real["images_a_class"]}


def _frechet(
    judged: _Judged, features: str | nn.Module, classifier: Classifier | None
) -> dict[str, Any]:
    """Of the samples to test images; and of training images to them, the floor."""
    network, name = feature_network(features, classifier, judged.value_range)
    test, samples, train = (
        read_features(network, part.images, judged.value_range)
        for part in (judged.test, judged.samples, judged.train)
    )
    found = frechet_distance(test, samples, features=name)
    return {**found, "of_real": frechet_distance(test, train, features=name)["distance"]}


def _classes(
    method: ClassConditional, train: LabelledImages, test: LabelledImages
) -> tuple[Tensor, str]:
    """Known classes with training and test images; and the others, for a message."""
    learned, tested = (torch.unique(part.labels) for part in (train, test))
    drawn = learned[torch.isin(learned, tested) & torch.isin(learned, method.known_classes())]
    if len(drawn) < 2:
        raise UserError(
            "fewer than two classes that can be drawn have labelled training images and test "
            "images: nothing to measure drawn images against"
        )
    every = torch.unique(torch.cat([learned, tested]))
    return drawn, ", ".join(map(str, every[~torch.isin(every, drawn)].tolist()))


def _first_rows(images: LabelledImages, classes: Tensor, count: int | None = None) -> Tensor:
    """The first `count` images of each class, or all."""
    rows = [(images.labels == k).nonzero()[:count, 0] for k in classes.tolist()]
    return torch.cat(rows)


def _first(images: LabelledImages, classes: Tensor, count: int | None = None) -> Drawn:
    rows = _first_rows(images, classes, count)
    return Drawn(images.__getitems__(rows.tolist())["image"], images.labels[rows])
