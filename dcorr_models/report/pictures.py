"""The pictures of the report, drawn from held-out images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from dcorr_models.data.base import LabelledImages
from dcorr_models.editing import inference, style_transfer
from dcorr_models.methods.base import Method
from dcorr_models.pictures import Rows, data_uri, grid
from dcorr_models.report.markup import text

__all__ = ["distinct_styles", "reconstructions", "style_grid"]

PAIRS = 24  # reconstructions shown
EXTRA_STYLES = 5  # rows after the one of each class
MAX_CLASSES = 20  # rows and columns of the style grid
CANDIDATES = 2000  # test images among which styles are looked for
CELL = 84  # pixels of an image in the page, about
GAP = 4


def reconstructions(method: Method, test: LabelledImages, label_names: Sequence[str]) -> str:
    """The first test images, each above its reconstruction."""
    images, labels = test.tensors(PAIRS)
    if len(images) == 0:
        return '<p class="note">The test split is empty.</p>'
    decoded = _through(method, images)
    tags = []
    for number, (image, back) in enumerate(zip(images, decoded, strict=True)):
        picture = _picture(method, test, [[image], [back]])
        which = f" ({label_names[int(labels[number])]})" if labels.ndim == 1 else ""
        alt = f"Test image {number}{which} above its reconstruction"
        tags.append(_img(picture, alt))
    return (
        f'<figure><div class="pairs">{"".join(tags)}</div><figcaption>The first {len(images)} test '
        "images, each above its reconstruction.</figcaption></figure>"
    )


def style_grid(method: Method, test: LabelledImages, label_names: Sequence[str]) -> str:
    """CDNet's Fig. 4: a row for each chosen image, and every class in its style."""
    if method.multilabel or len(test) == 0:
        return ""
    rows = _chosen(method, test)
    images = test.__getitems__(rows)["image"]
    columns = list(label_names)[:MAX_CLASSES]
    real = _picture(method, test, images.unsqueeze(1))
    made = _picture(method, test, style_transfer(method, images)[:, : len(columns)])
    names = [label_names[int(test.labels[row])] for row in rows]
    heads = "".join(f"<span>{text(name)}</span>" for name in columns)
    # The two pictures are equally high when their columns have their widths.
    widths = f"minmax(0,{real.width}fr) minmax(0,{made.width}fr)"
    left = _img(real, f"Real test images, one a row: {', '.join(names)}")
    right = _img(
        made,
        f"A row for each real image on the left; in each row the classes {', '.join(columns)} "
        "in the style of that image",
    )
    return (
        f'<figure><div class="styles" style="grid-template-columns:{widths};'
        f'max-width:{real.width + made.width + 20}px"><div class="heads"><span>real</span></div>'
        f'<div class="heads" style="grid-template-columns:repeat({len(columns)},1fr)">{heads}</div>'
        f"{left}{right}</div>"
        f"<figcaption>{_caption(len(rows), len(set(names)))}</figcaption></figure>"
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


def _through(method: Method, images: Tensor) -> Tensor:
    with inference(method):
        result: Tensor = method(images.to(_device(method)))
        return result.cpu()


def _device(method: Method) -> torch.device:
    first = next(method.parameters(), None)
    return torch.device("cpu") if first is None else first.device


def _picture(method: Method, test: LabelledImages, rows: Rows) -> Image.Image:
    scale = max(1, CELL // method.image_shape[1])
    return grid(rows, value_range=test.value_range, scale=scale, padding=GAP, background=None)


def _img(picture: Image.Image, alt: str) -> str:
    return f'<img src="{data_uri(picture)}" alt="{text(alt)}">'
