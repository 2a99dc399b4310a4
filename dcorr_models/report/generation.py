"""What the report shows of methods that draw images of a class: samples, codes varied, holes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from dcorr_models import editing
from dcorr_models.data.base import LabelledImages, Splits
from dcorr_models.editing.inpainting import bottom_half, corrupt, inpaint, right_half
from dcorr_models.editing.passes import to_networks_of
from dcorr_models.editing.swap import example_rows
from dcorr_models.methods.base import Codes, Method
from dcorr_models.methods.class_conditional import ClassConditional
from dcorr_models.pictures import data_uri, is_point
from dcorr_models.report.markup import text
from dcorr_models.report.pictures import Block, beside, picture
from dcorr_models.report.points import point_chart

__all__ = [
    "draw_rows",
    "fixed_code_grids",
    "inpainting_rows",
    "point_clouds",
    "point_figure",
    "sample_grid",
    "single_dimensions",
]

MAX_CLASSES = 20  # rows of samples
COLUMNS = 10  # samples of a class, and steps of a code
SHOWN = 5  # classes whose codes are varied, and images with holes
DIMENSIONS = 3
RANGE = 3.0  # of one dimension of z_u, in standard deviations of its prior
CANDIDATES = 1000  # test images by which dimensions are chosen
POINTS = 200  # drawn points of each class in the figure, and real ones


def draw_rows(method: ClassConditional, classes: Sequence[int], count: int) -> Tensor:
    """(K, count, C, H, W) on the CPU: samples of each class, from seed 0.

    Args:
        method: see `ClassConditional.sample`.
        classes: K of them, all known to the method.
        count: of each class.
    """
    device, generator = _generator(method)
    labels = torch.tensor(classes, device=device).repeat_interleave(count)
    with editing.inference(method):
        images = method.sample(labels, generator=generator).cpu()
    return images.reshape(len(classes), count, *images.shape[1:])


def sample_grid(method: Method, test: LabelledImages, label_names: Sequence[str]) -> str:
    """Lr-LiVAE's Fig. 3: images drawn of each class, a class a row."""
    if not isinstance(method, ClassConditional) or is_point(test.images.shape):
        return ""
    known = method.known_classes().tolist()
    classes = known[:MAX_CLASSES]
    names = [label_names[k] for k in classes]
    whole = picture(test, draw_rows(method, classes, COLUMNS))
    alt = f"{COLUMNS} drawn images of each class, by row: {', '.join(names)}"
    rows = f"the first {len(classes)} of {len(known)} classes" if classes != known else "each class"
    return _figure(
        whole,
        alt,
        f"Images drawn of {rows}, one class a row ({text(', '.join(names))}); codes from "
        f"{text(method.samples_from)}, seed 0. The first {COLUMNS} that were drawn are shown.",
    )


def fixed_code_grids(method: Method, test: LabelledImages, label_names: Sequence[str]) -> str:
    """Lr-LiVAE's Fig. 4: one code fixed, the other varied from one draw to another."""
    if not _shows_codes(method, test):
        return ""
    assert isinstance(method, ClassConditional)
    classes = _evenly(method.known_classes().tolist())
    device, _ = _generator(method)
    labels = torch.tensor(classes, device=device)
    with editing.inference(method):
        one, other = (_same_noise(method, labels, seed=seed) for seed in (0, 1))
        # [class, step] from the first draw to the second; a straight line, as in the paper
        steps = torch.linspace(0, 1, COLUMNS, device=device)[None, :, None]
        z_s, z_u = (a[:, None] + steps * (b - a)[:, None] for a, b in zip(one, other, strict=True))
        rows = {
            "z_u": (z_s, one.residual[:1, None].expand_as(z_u)),
            "z_s": (one.label[:, None].expand_as(z_s), z_u),
        }
        drawn = {fixed: _decoded(method, *codes) for fixed, codes in rows.items()}
    names = ", ".join(label_names[k] for k in classes)
    content = _content_name(method)
    figure = _figure(
        picture(test, drawn["z_s"]),
        f"Content codes varied from left to right, the class code the same in each row: {names}",
        f"<strong>{'z_s' if method.has_class_vectors else 'Class'} fixed, {content} varied."
        f"</strong> One class code for each row ({text(names)}); the content code goes in a "
        "straight line from one draw of its prior to another, the same in all rows.",
    )
    if not method.has_class_vectors:  # a class has one label code: nothing to vary
        return figure
    return (
        _figure(
            picture(test, drawn["z_u"]),
            f"Class codes varied from left to right, the content code the same throughout: {names}",
            "<strong>z_u fixed, z_s varied.</strong> One content code for the whole picture; in "
            f"each row ({text(names)}) the class code goes in a straight line from one draw of the "
            "class to another; the noise of a column is the same in all rows.",
        )
        + figure
    )


def single_dimensions(method: Method, test: LabelledImages, label_names: Sequence[str]) -> str:
    """Lr-LiVAE's Fig. 5: one dimension of the content code at a time."""
    if not _shows_codes(method, test):
        return ""
    assert isinstance(method, ClassConditional)
    classes = _evenly(method.known_classes().tolist())
    device, generator = _generator(method)
    with editing.inference(method):
        images = test.__getitems__(range(min(CANDIDATES, len(test))))["image"]
        parts = torch.split(images, 250)
        means = torch.cat([method.encode(to_networks_of(method, p)).residual for p in parts])
        spread = means.float().std(dim=0, correction=0)
        chosen = spread.argsort(descending=True)[:DIMENSIONS].tolist()
        codes = method.draw_codes(torch.tensor(classes, device=device), generator=generator)
        figures = []
        for dimension in chosen:
            z_u = codes.residual[:, None].repeat(1, COLUMNS, 1)
            z_u[:, :, dimension] = torch.linspace(-RANGE, RANGE, COLUMNS).to(z_u)
            z_s = codes.label[:, None].expand(-1, COLUMNS, -1)
            figures.append((dimension, picture(test, _decoded(method, z_s, z_u))))
    names = ", ".join(label_names[k] for k in classes)
    return "".join(
        _figure(
            whole,
            f"Dimension {dimension} of the content code from {-RANGE:g} to {RANGE:g}: {names}",
            f"Dimension {dimension} of {_content_name(method)} from {-RANGE:g} to {RANGE:g}, "
            f"where its prior has standard deviation 1; over {len(images):,} test images its mean "
            f"spreads by {float(spread[dimension]):.2g}. Everything else is one draw for each row "
            f"({text(names)}).",
        )
        for dimension, whole in figures
    ) + (
        f'<p class="soft">The {len(chosen)} of {len(spread)} dimensions whose means spread most '
        "over test images are shown; nothing was chosen by looks.</p>"
    )


def inpainting_rows(method: Method, test: LabelledImages) -> str:
    """Lr-LiVAE's Fig. 7: test images with a hole, and the hole filled."""
    if not isinstance(method, ClassConditional) or not method.has_encoder:
        return ""
    if is_point(test.images.shape) or min(test.images.shape[2:]) < 2:
        return ""
    images = test.__getitems__(example_rows(test, 2 * SHOWN))["image"]
    height, width = images.shape[-2:]
    blocks = []
    for name, mask in (
        ("right", right_half(height, width)),
        ("bottom", bottom_half(height, width)),
    ):
        corrupted = corrupt(method, images, mask, value_range=test.value_range)
        filled = inpaint(method, images, mask, value_range=test.value_range)
        columns = torch.stack([images, corrupted, filled], dim=1)
        alt = f"Test images, with the {name} half hidden, and with it filled in"
        blocks.append(Block(picture(test, columns), ["real", "hidden", "filled"], alt))
    return (
        f"<figure>{beside(blocks)}<figcaption>Test images of several classes whose right or bottom "
        "half is hidden (grey). The image with the hole is encoded and decoded, and what was "
        "hidden is taken from there.</figcaption></figure>"
    )


def point_figure(method: Method, splits: Splits, label_names: Sequence[str]) -> str:
    """Lr-LiVAE's Fig. 2 at the end of the training: drawn points beside real ones."""
    if not isinstance(method, ClassConditional) or not is_point(splits.test.images.shape):
        return ""
    real, drawn = point_clouds(method, splits.test)
    charts = [
        (name, point_chart(points, bounds_of=real, title=f"{name} points"))
        for name, points in (("Real test", real), ("Drawn", drawn))
    ]
    figures = "".join(
        f"<figure><figcaption>{text(name)}</figcaption>{chart}</figure>" for name, chart in charts
    )
    classes = ", ".join(label_names[k] for k in method.known_classes().tolist())
    return (
        f"<p>At most {POINTS} points of each class ({text(classes)}), each class in its colour, "
        "the same frame for both. They are drawn after the training: a run keeps one checkpoint, "
        "not those of earlier epochs.</p>"
        f'<div class="panels">{figures}</div>'
    )


def point_clouds(
    method: ClassConditional, test: LabelledImages
) -> tuple[list[Tensor], list[Tensor]]:
    """Real and drawn points (N, 2) of each class that can be drawn, their first two coordinates."""
    classes = method.known_classes().tolist()
    rows = [(test.labels == k).nonzero()[:POINTS, 0].tolist() for k in classes]
    real = [test.__getitems__(found)["image"].flatten(1)[:, :2] for found in rows]
    drawn = draw_rows(method, classes, POINTS).flatten(2)[:, :, :2]
    return real, list(drawn)


def _shows_codes(method: Method, test: LabelledImages) -> bool:
    """Whether class codes and content codes of images can be drawn apart."""
    codes = isinstance(method, ClassConditional) and method.has_encoder
    return codes and not is_point(test.images.shape)


def _content_name(method: Method) -> str:
    """What the papers call it: of a class code and a content code, or beside a label."""
    return "z_u" if method.has_class_vectors else "z"


def _generator(method: Method) -> tuple[torch.device, torch.Generator]:
    device = next(method.parameters()).device
    return device, torch.Generator(device).manual_seed(0)


def _same_noise(method: ClassConditional, labels: Tensor, *, seed: int) -> Codes:
    """Codes of each class from the same random numbers, so that a column compares the classes."""
    drawn = [
        method.draw_codes(label, generator=torch.Generator(labels.device).manual_seed(seed))
        for label in torch.split(labels, 1)
    ]
    return Codes(*(torch.cat(parts) for parts in zip(*drawn, strict=True)))


def _decoded(method: Method, label: Tensor, residual: Tensor) -> Tensor:
    """Codes (R, T, ·) to images (R, T, C, H, W) on the CPU."""
    images = method.decode(Codes(label.flatten(0, 1), residual.flatten(0, 1))).cpu()
    return images.reshape(*label.shape[:2], *images.shape[1:])


def _evenly(classes: list[int]) -> list[int]:
    count = min(SHOWN, len(classes))
    return [classes[k * len(classes) // count] for k in range(count)]


def _figure(whole: Image.Image, alt: str, caption: str) -> str:
    """A picture with its caption, which is HTML already."""
    return (
        f'<figure><img src="{data_uri(whole)}" alt="{text(alt)}" '
        f'style="max-width:{whole.width}px"><figcaption>{caption}</figcaption></figure>'
    )
