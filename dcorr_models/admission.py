"""What is looked at before a run begins, so that a mistake costs seconds and leaves no folder."""

from __future__ import annotations

import torch
from torch import Tensor

from dcorr_models.data.base import (
    DataSource,
    LabelledImages,
    Splits,
    is_unlabelled,
    require_labels,
)
from dcorr_models.editing import inference
from dcorr_models.errors import DataError, UserError
from dcorr_models.methods.base import Method
from dcorr_models.training.sampler import images_of_small_classes
from dcorr_models.training.stage import Stage

__all__ = ["admit", "check_data", "check_fit"]


def admit(
    method: Method, data: DataSource, splits: Splits, stages: list[Stage], *, processes: int
) -> None:
    """Raises `UserError` for whatever of method and data cannot be trained together."""
    check_data(method, data, splits.train)
    if method.reads_labels:
        for name, split in (("valid", splits.valid), ("test", splits.test)):
            require_labels(f"the {name} split of {data.name}", split.labels)
    missing = int(is_unlabelled(splits.train.labels).sum()) if method.reads_labels else 0
    if missing and not any(stage.unlabelled_batch_size for stage in stages):
        raise UserError(
            f"{missing} training images of {data.name} have no label (-1), and no stage of "
            f"{type(method).__name__} with these settings reads such images: set "
            "--method.unlabelled_batch_size, or leave --data.unknown_classes and --data.labelled "
            "out"
        )
    for stage in stages:
        _check_batch(stage, len(splits.train) - missing, processes)
        _check_unlabelled_batch(stage, data, missing, processes)
        _check_groups(stage, data, splits.train, processes)
    rehearse(method, splits.train)


def check_data(method: Method, data: DataSource, split: LabelledImages) -> None:
    """What can be said before a method meets its images: raises `UserError` where they do not fit.

    `Method.meet` may count on it.
    """
    check_fit(method, data)
    if method.reads_labels:
        check_labels(method, data, split)


def check_fit(method: Method, data: DataSource) -> None:
    """Raises `UserError` when the data's images or labels are not what the method was made for."""
    own, kind = type(method).__name__, "attributes" if data.multilabel else "classes"
    if tuple(method.image_shape) != tuple(data.image_shape):
        raise UserError(
            f"{data.name} has images of shape {tuple(data.image_shape)}, {own} was made for "
            f"{tuple(method.image_shape)}: set --method.image_shape (and --method.architecture)"
        )
    other_labels = (
        method.num_labels != len(data.label_names) or method.multilabel != data.multilabel
    )
    if other_labels and method.reads_labels:
        wanted = "attributes" if method.multilabel else "classes"
        raise UserError(
            f"{data.name} has {len(data.label_names)} {kind}, {own} was made for "
            f"{method.num_labels} {wanted}: set --method.num_labels and --method.multilabel"
        )
    if method.value_range is not None and tuple(method.value_range) != tuple(data.value_range):
        raise UserError(
            f"{data.name} has values in {tuple(data.value_range)}, the decoder of {own} gives "
            f"{tuple(method.value_range)}: take another --method.architecture or your own decoder"
        )


def check_labels(method: Method, data: DataSource, split: LabelledImages) -> None:
    """Raises `DataError` when the labels themselves are not what the data set promises."""
    labels = split.labels
    if method.multilabel:
        if labels.ndim != 2 or labels.shape[1] != method.num_labels:
            raise DataError(
                f"{data.name} promises {method.num_labels} attributes, its labels have shape "
                f"{tuple(labels.shape)}"
            )
        return
    if labels.dtype != torch.int64 or labels.ndim != 1:
        raise DataError(
            f"{data.name} promises classes, its labels are {labels.dtype} of shape "
            f"{tuple(labels.shape)}, wanted int64 of shape (N,)"
        )
    if len(labels) and int(labels.max()) >= method.num_labels:
        raise DataError(
            f"{data.name} has labels up to {int(labels.max())}, more classes than the "
            f"{method.num_labels} (0 to {method.num_labels - 1}) that it promises and "
            f"{type(method).__name__} was made for: correct the data or set --method.num_labels"
        )
    _check_unlabelled_images(method, data, labels)


def _check_unlabelled_images(method: Method, data: DataSource, labels: Tensor) -> None:
    known = labels[~is_unlabelled(labels)]
    if not len(known):
        raise DataError(
            f"none of the {len(labels)} training images of {data.name} has a label: give some "
            "labelled ones (--data.labelled)"
        )
    missing = len(labels) - len(known)
    if missing and not method.takes_unlabelled:
        raise DataError(
            f"{missing} of {len(labels)} training images of {data.name} have no label (-1), and "
            f"{type(method).__name__} with these settings learns from labelled ones alone: leave "
            "--data.unknown_classes and --data.labelled out, or set it to semi-supervised training "
            "where it has that (LrLiVAE: --method.unlabelled)"
        )
    empty = (known.bincount(minlength=method.num_labels) == 0).nonzero().flatten().tolist()
    if empty and method.needs_every_class:
        named = ", ".join(data.label_names[k] for k in empty[:20])
        more = f" and {len(empty) - 20} more" if len(empty) > 20 else ""
        raise DataError(
            f"{type(method).__name__} needs labelled training images of every class, and "
            f"{data.name} has none of {named}{more}: leave these classes out of the data, and set "
            "--method.num_labels"
        )


def rehearse(method: Method, split: LabelledImages) -> None:
    """One forward pass on two images, and the shapes of what comes out.

    Raises:
        UserError: a network or a regulariser that fails, or returns something else than the
            method needs; the message says which.
    """
    images = split.__getitems__([0, min(1, len(split) - 1)])["image"]
    if tuple(images.shape[1:]) != tuple(method.image_shape):
        raise DataError(
            f"the data set promises images of shape {tuple(method.image_shape)} and gives "
            f"{tuple(images.shape[1:])}"
        )
    device = next((p.device for p in method.parameters()), torch.device("cpu"))
    with inference(method):
        for name, call, shape in method.rehearsal(images.to(device)):
            try:
                result = call()
            except UserError:
                raise
            except Exception as error:  # whatever a user's module may raise
                reason = " ".join(str(error).split())
                raise UserError(
                    f"{name} fails on a batch of {tuple(images.shape)}: "
                    f"{type(error).__name__}: {reason}"
                ) from error
            _check_result(name, result, shape)


def _check_result(name: str, result: object, shape: tuple[int, ...]) -> None:
    if not isinstance(result, Tensor):
        raise UserError(f"{name} must return a tensor, got {type(result).__name__}")
    if tuple(result.shape) != shape:
        raise UserError(f"{name} must return shape {shape}, got {tuple(result.shape)}")
    if not result.is_floating_point():
        raise UserError(f"{name} must return floating-point numbers, got {result.dtype}")


def _check_batch(stage: Stage, available: int, processes: int) -> None:
    size = stage.batch_size
    if size > available:
        kind = "labelled images" if stage.reads_labels else "images"
        raise UserError(
            f"stage {stage.name!r} takes batches of {size} but the training split has {available} "
            f"{kind}: set --method.batch_size, or the batch_size of that stage, to fit"
        )
    if size % processes:
        raise UserError(
            f"batch_size {size} is not divisible by the {processes} processes: "
            "change --method.batch_size or --devices"
        )
    if size // processes < stage.smallest_share:
        raise UserError(
            f"batch_size {size} leaves a process one image, and neither a batch statistic nor "
            "BatchNorm exists for one: take at least 2 for each process"
        )


def _check_unlabelled_batch(stage: Stage, data: DataSource, available: int, processes: int) -> None:
    size = stage.unlabelled_batch_size
    if size is None:
        return
    if size > available:
        way_out = "set --method.unlabelled_batch_size to fit"
        if not available:
            way_out = (
                "hide some (--data PartlyLabelled, with --data.unknown_classes or --data.labelled)"
            )
        raise UserError(
            f"stage {stage.name!r} takes {size} images without a label a step, and the training "
            f"split of {data.name} has {available}: {way_out}, or train on labelled images alone"
        )
    if size % processes:
        raise UserError(
            f"unlabelled_batch_size {size} is not divisible by the {processes} processes: "
            "change --method.unlabelled_batch_size or --devices"
        )


def _check_groups(stage: Stage, data: DataSource, train: LabelledImages, processes: int) -> None:
    size = stage.images_per_class
    if size is None:
        return
    if data.multilabel:
        raise UserError(
            f"stage {stage.name!r} takes {size} images of one class together, and {data.name} has "
            "attributes, not classes"
        )
    labels = train.labels[~is_unlabelled(train.labels)]
    small = images_of_small_classes(labels, size)
    if small:
        named = ", ".join(f"{data.label_names[k]} ({n})" for k, n in list(small.items())[:20])
        more = f" and {len(small) - 20} more" if len(small) > 20 else ""
        raise UserError(
            f"stage {stage.name!r} takes {size} images of one class together, and classes of "
            f"{data.name} have fewer training images: {named}{more}; leave them out of the data "
            "or set --method.images_per_class"
        )
    groups = stage.batch_size // size
    if groups % processes:
        raise UserError(
            f"{groups} groups of {size} images ({stage.name!r}) are not divisible by the "
            f"{processes} processes: change --method.batch_size or --devices"
        )
    whole = int(labels.bincount().div(size, rounding_mode="floor").sum()) * size
    if stage.batch_size > whole:
        raise UserError(
            f"stage {stage.name!r} takes batches of {stage.batch_size} but the training split has "
            f"{whole} images in whole groups of {size}: set --method.batch_size to fit"
        )
