"""The pictures of the report, drawn from held-out images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from dcorr_models.data.base import LabelledImages
from dcorr_models.editing import inference, reconstruct, style_transfer
from dcorr_models.methods.base import Method
from dcorr_models.pictures import Rows, data_uri, grid
from dcorr_models.report.markup import text

__all__ = [
    "Block",
    "beside",
    "distinct_styles",
    "picture",
    "reconstructions",
    "style_grid",
]

PAIRS = 24  # reconstructions shown
EXTRA_STYLES = 5  # rows after the one of each class
MAX_CLASSES = 20  # rows and columns of the style grid
CANDIDATES = 2000  # test images among which styles are looked for
CELL = 84  # pixels of an image in the page, about
GAP = 4


class Block(NamedTuple):
    """A picture in columns of equal width, and what stands above each."""

    picture: Image.Image
    heads: Sequence[str]
    alt: str


def reconstructions(method: Method, test: LabelledImages, label_names: Sequence[str]) -> str:
    """The first test images, each above its reconstruction."""
    images, labels = test.tensors(PAIRS)
    if len(images) == 0:
        return '<p class="note">The test split is empty.</p>'
    decoded = reconstruct(method, images)
    tags = []
    for number, (image, back) in enumerate(zip(images, decoded, strict=True)):
        pair = picture(test, [[image], [back]])
        known = labels.ndim == 1 and 0 <= int(labels[number]) < len(label_names)
        which = f" ({label_names[int(labels[number])]})" if known else ""
        alt = f"Test image {number}{which} above its reconstruction"
        tags.append(_img(pair, alt))
    return (
        f'<figure><div class="pairs">{"".join(tags)}</div><figcaption>The first {len(images)} test '
        "images, each above its reconstruction.</figcaption></figure>"
    )


def style_grid(method: Method, test: LabelledImages, label_names: Sequence[str]) -> str:
    """CDNet's Fig. 4: a row for each chosen image, and every class in its style."""
    edited_by_class = method.has_label_code and not (method.multilabel or method.has_class_vectors)
    if not edited_by_class or len(test) == 0:
        return ""
    rows = _chosen(method, test)
    images = test.__getitems__(rows)["image"]
    columns = list(label_names)[:MAX_CLASSES]
    names = [label_names[int(test.labels[row])] for row in rows]
    real = Block(
        picture(test, images.unsqueeze(1)),
        ["real"],
        f"Real test images, one a row: {', '.join(names)}",
    )
    made = Block(
        picture(test, style_transfer(method, images)[:, : len(columns)]),
        columns,
        f"A row for each real image on the left; in each row the classes {', '.join(columns)} "
        "in the style of that image",
    )
    caption = _caption(len(rows), len(set(names)))
    return f"<figure>{beside([real, made])}<figcaption>{caption}</figcaption></figure>"


def beside(blocks: Sequence[Block], *, upright: bool = False) -> str:
    """Pictures of equal height next to each other, words above their columns.

    Args:
        blocks: at least one.
        upright: the words stand upright, for names longer than a column is wide.
    """
    # The pictures are equally high when their columns have their widths.
    widths = " ".join(f"minmax(0,{block.picture.width}fr)" for block in blocks)
    room = sum(block.picture.width for block in blocks) + 20 * (len(blocks) - 1)
    kind = "heads upright" if upright else "heads"
    heads = "".join(
        f'<div class="{kind}" style="grid-template-columns:repeat({len(block.heads)},1fr)">'
        + "".join(f"<span>{text(head)}</span>" for head in block.heads)
        + "</div>"
        for block in blocks
    )
    images = "".join(_img(block.picture, block.alt) for block in blocks)
    return (
        f'<div class="styles" style="grid-template-columns:{widths};max-width:{room}px">'
        f"{heads}{images}</div>"
    )


def picture(
    test: LabelledImages, rows: Rows, *, gap_after: int = 0, gap_below: int = 0
) -> Image.Image:
    """A grid in the size of the page, with nothing between the images; gaps as in `grid`."""
    height = next(image.shape[-2] for row in rows for image in row if image is not None)
    return grid(
        rows,
        value_range=test.value_range,
        scale=max(1, CELL // height),
        padding=GAP,
        background=None,
        gap_after=gap_after,
        gap_below=gap_below,
    )


def distinct_styles(residual: Tensor, count: int, *, chosen: Sequence[int] = ()) -> list[int]:
    """Images whose residual codes lie far from each other, without the outliers.

    Starting from `chosen`, the image farthest from all images taken so far is taken next. The
    tenth of the codes that lies farthest from the mean is not looked at: far out there one finds
    broken images rather than styles.

    Args:
        residual: (N, Z) codes.
        count: how many to take.
        chosen: images that are taken already.

    Returns:
        At most `count` indices, none of them in `chosen`.

    Example:
        >>> codes = torch.linspace(-1, 1, 21)[:, None]
        >>> distinct_styles(codes, 2, chosen=[5])
        [19, 12]
    """
    codes = residual.double()
    spread = codes.std(dim=0, correction=0)
    codes = (codes - codes.mean(dim=0)) / torch.where(spread > 0, spread, torch.ones_like(spread))
    far = codes.norm(dim=1)
    allowed = far <= far.quantile(0.9)
    taken = list(chosen)
    result: list[int] = []
    while len(result) < count:
        distance = torch.cdist(codes, codes[taken]).amin(dim=1) if taken else far.clone()
        distance[~allowed] = -1.0
        best = int(distance.argmax())
        if distance[best] <= 0:  # only copies of what is taken are left
            break
        taken.append(best)
        result.append(best)
    return result


def _chosen(method: Method, test: LabelledImages) -> list[int]:
    """The first test image of each class, then some of distinct styles."""
    images, labels = test.tensors(CANDIDATES)
    known = labels.tolist()
    firsts = [known.index(k) for k in range(min(method.num_labels, MAX_CLASSES)) if k in known]
    with inference(method):
        device = _device(method)
        starts = range(0, len(images), 500)
        parts = [method.encode(images[i : i + 500].to(device)).residual.cpu() for i in starts]
    return firsts + distinct_styles(torch.cat(parts).flatten(1), EXTRA_STYLES, chosen=firsts)


def _caption(rows: int, classes: int) -> str:
    more = rows - classes
    extra = (
        f", then {more} more whose styles, by their residual codes, lie far apart" if more else ""
    )
    return (
        "Left column: real test images, the first of each class"
        f"{extra}. Other columns: the same image edited to each class by exchanging two entries of "
        "its label code; its residual code stays. Nothing else was chosen by hand or by looks."
    )


def _device(method: Method) -> torch.device:
    first = next(method.parameters(), None)
    return torch.device("cpu") if first is None else first.device


def _img(picture: Image.Image, alt: str) -> str:
    return f'<img src="{data_uri(picture)}" alt="{text(alt)}">'
