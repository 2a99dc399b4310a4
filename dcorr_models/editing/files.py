"""Edits of image files and of test images, written as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from dcorr_models.data.base import DataSource
from dcorr_models.editing.attributes import (
    default_intensities,
    edit_attributes,
    single_intensity,
    sweep,
)
from dcorr_models.editing.classes import edit_class, style_transfer
from dcorr_models.editing.inputs import file_inputs, test_inputs, write_file
from dcorr_models.editing.labels import check_attributes, check_classes, label_index
from dcorr_models.editing.passes import reconstruct
from dcorr_models.editing.swap import check_class_content, class_codes, translate
from dcorr_models.editing.swap_files import swap_files
from dcorr_models.errors import UserError
from dcorr_models.file_names import distinct_file_names, file_name
from dcorr_models.methods.base import Method
from dcorr_models.pictures import grid, labelled_grid, png_bytes

__all__ = ["edit_files"]

FIRST = 8  # test images that are edited if nothing else is said
CELL = 84  # pixels of an image in edited.png, about


class Request(NamedTuple):
    """Which of the ways to edit was asked for; see the arguments of `edit_files`."""

    target: str | None
    values: Mapping[str, float] | None
    attribute: str | None
    intensities: Sequence[float] | None
    swaps: bool  # --class_of or --content_of


class Edited(NamedTuple):
    """Edits of N images: what stands above each column, and the columns."""

    captions: list[str]
    images: Tensor  # (N, T, C, H, W)


def edit_files(
    method: Method,
    data: DataSource,
    out: Path,
    *,
    target: str | None = None,
    values: Mapping[str, float] | None = None,
    attribute: str | None = None,
    intensities: Sequence[float] | None = None,
    class_of: Sequence[str | Path] = (),
    content_of: Sequence[str | Path] = (),
    images: Sequence[str | Path] = (),
    indices: Sequence[int] | None = (),
    invert: bool = False,
) -> Path:
    """Edits image files or test images, and writes the results as PNG files.

    One of `target`, `values` and `attribute` says how. Without any, a method of classes shows every
    class, and a method of attributes each attribute alone at `single_intensity(method)`. A method
    of class and content codes takes `target`, or else puts the class of one image and the content
    of another together: see `swap_files.swap_files`.

    Args:
        method: a trained method.
        data: the data it was trained on: names of the labels, image shape, value range.
        out: folder for the results, made if missing: `edited.png` with the input in the first
            column, its reconstruction in the second and an edit in each other one, and a file an
            edit.
        target: name of the class to edit to.
        values: attributes, and the values that they get at once; see `edit_attributes`.
        attribute: one attribute, shown at each of `intensities`.
        intensities: by default five values over the method's range.
        class_of: the user's files whose class is taken, for a method of class and content codes.
        content_of: the user's files whose content is taken, likewise.
        images: the user's own files; see `read_image_file`.
        indices: test images to edit where `images` is empty; None for the first eight.
        invert: exchange black and white in the files.

    Returns:
        Path of `edited.png`.

    Raises:
        UserError: arguments that contradict each other or the method, an unknown class or
            attribute, a value that is no finite number, a broken file, an index outside the test
            split, nothing to edit, a folder that cannot be written to.
    """
    request = Request(target, values, attribute, intensities, bool(class_of or content_of))
    _check_request(method, request)
    if method.label_names is None:
        method.label_names = tuple(data.label_names)
    if method.has_class_vectors and target is None:
        return swap_files(
            method,
            data,
            out,
            class_of=class_of,
            content_of=content_of,
            images=images,
            indices=indices,
            invert=invert,
        )
    if images:
        inputs, stems = file_inputs(data, images, invert=invert)
    else:
        inputs, stems = test_inputs(data, indices, first=FIRST)
    edited = _edit(method, inputs, request, data)
    columns = [inputs.unsqueeze(1), reconstruct(method, inputs).unsqueeze(1), edited.images]
    picture = labelled_grid(
        torch.cat(columns, dim=1),
        heads=["input", "rebuilt", *edited.captions],
        value_range=data.value_range,
        scale=max(1, CELL // data.image_shape[1]),
        gap_after=2,
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
        endings = distinct_file_names(edited.captions)
        for number, (stem, row) in enumerate(zip(stems, edited.images, strict=True)):
            for ending, image in zip(endings, row, strict=True):
                single = grid([[image]], value_range=data.value_range)
                name = f"{number:02d}_{file_name(stem)}_as_{ending}.png"
                write_file(out / name, png_bytes(single))
        write_file(out / "edited.png", png_bytes(picture))
    except OSError as error:
        raise UserError(
            f"{out} cannot be written to ({error.strerror}): give --out another folder"
        ) from error
    return out / "edited.png"


def _check_request(method: Method, request: Request) -> None:
    """Refuses what contradicts itself or the method, before any image is read."""
    ways = {"--target": request.target, "--set": request.values, "--attribute": request.attribute}
    given = [name for name, value in ways.items() if value is not None]
    given += ["--class_of or --content_of"] if request.swaps else []
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)} are two ways to edit: give one of them")
    if request.intensities is not None and request.attribute is None:
        raise UserError("--intensities belong to an attribute: name it with --attribute")
    if request.swaps or (method.has_class_vectors and given in ([], ["--target"])):
        check_class_content(method)
        return
    # Without a request, whatever the method can do is done; a method without a label code cannot.
    wants_attributes = method.multilabel if not given else request.target is None
    (check_attributes if wants_attributes else check_classes)(method)


def _edit(method: Method, inputs: Tensor, request: Request, data: DataSource) -> Edited:
    names = list(data.label_names)
    if request.values is not None:
        edited = edit_attributes(method, inputs, dict(request.values)).unsqueeze(1)
        return Edited([", ".join(f"{k} {v:g}" for k, v in request.values.items())], edited)
    if request.attribute is not None:
        given = request.intensities
        steps = default_intensities(method) if given is None else list(given)
        edited = sweep(method, inputs, request.attribute, steps)
        return Edited([f"{request.attribute} {step:g}" for step in steps], edited)
    if request.target is not None:
        target = label_index(request.target, names, kind="class")
        if method.has_class_vectors:
            code = class_codes(method, data.splits().train, [target])
            return Edited([request.target], translate(method, inputs, code))
        return Edited([request.target], edit_class(method, inputs, target).unsqueeze(1))
    if not method.multilabel:
        return Edited(names, style_transfer(method, inputs))
    strong = single_intensity(method)
    parts = [sweep(method, inputs, column, [strong]) for column in range(method.num_labels)]
    return Edited([f"{name} {strong:g}" for name in names], torch.cat(parts, dim=1))
