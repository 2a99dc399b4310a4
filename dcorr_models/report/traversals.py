"""What the report shows of independent latent numbers: traversals, one code fixed, samples."""

from __future__ import annotations

import torch
from torch import Tensor

from dcorr_models import editing
from dcorr_models.data.base import LabelledImages, Splits
from dcorr_models.editing.traversal import (
    CANDIDATES,
    base_code,
    by_spread,
    drawers,
    images_to_look_at,
    same_side,
    traverse,
)
from dcorr_models.methods.base import Method
from dcorr_models.methods.latent_variable import LatentVariable
from dcorr_models.pictures import data_uri, is_point
from dcorr_models.report.markup import text
from dcorr_models.report.pictures import Block, beside, picture

__all__ = ["draw_latent", "latent_samples", "nuisance_grids", "traversal_grids"]

DIMENSIONS = 10
STEPS = 7
RANGE = 2.0  # standard deviations of the prior
COLUMNS = 10
ROWS = 4


def traversal_grids(method: Method, splits: Splits) -> str:
    """ID-GAN's Fig. 6: each number moved by itself, by the VAE and beside it by the generator."""
    images, split = images_to_look_at(splits)
    if not _draws(method, images):
        return ""
    assert isinstance(method, LatentVariable)
    spread = by_spread(method, images.tensors(CANDIDATES)[0])
    shown = spread.order[:DIMENSIONS]
    base = base_code(method, images.tensors(1)[0])[0]
    values = torch.linspace(-RANGE, RANGE, STEPS)
    heads = [f"{value:.1f}" for value in values.tolist()]
    drawn = {name: traverse(who, base, shown, values) for name, who in drawers(method).items()}
    side = max(pictures.shape[-1] for pictures in drawn.values())
    numbers = ", ".join(map(str, shown))
    blocks = [
        Block(
            picture(images, _sized(pictures, side)),
            heads,
            f"Traversals by {name}: a row for each of the dimensions {numbers}",
        )
        for name, pictures in drawn.items()
    ]
    by = " and on the right ".join(map(text, drawn))
    start = f"the first {split} image" if method.has_encoder else "0"
    order = (
        f"They are ordered by how far their means spread over {spread.images:,} {split} images: "
        + ", ".join(f"{spread.std[d]:.2g}" for d in shown)
        if spread.images
        else "They come in their order"
    )
    side_by_side = f"On the left drawn by {by}. " if len(drawn) > 1 else ""
    return (
        f"<figure>{beside(blocks)}<figcaption>{side_by_side}A row for each of the dimensions "
        f"{numbers} of c: it goes from {-RANGE:g} to {RANGE:g}, in standard deviations of the "
        f"prior, and all others stay at the code of {start}. {order}. Nothing was chosen by "
        "looks.</figcaption></figure>"
    )


def nuisance_grids(method: Method, test: LabelledImages) -> str:
    """ID-GAN's Fig. 7: c fixed and s varied, and the reverse."""
    if not _draws(method, test):
        return ""
    assert isinstance(method, LatentVariable)
    if not method.nuisance_dim:
        return ""
    device, generator = _generator(method)
    c = method.sample_codes(ROWS, generator=generator)
    s = torch.randn(COLUMNS, method.nuisance_dim, generator=generator, dtype=c.dtype, device=device)
    by_row = method.sample_codes(COLUMNS, generator=generator)
    rows = s[:ROWS]
    fixed_c = _table(method, c[:, None].expand(-1, COLUMNS, -1), s[None].expand(ROWS, -1, -1))
    fixed_s = _table(
        method, by_row[None].expand(ROWS, -1, -1), rows[:, None].expand(-1, COLUMNS, -1)
    )
    return _figure(
        test,
        fixed_c,
        "Rows of one c, columns of one s",
        "<strong>c fixed, s varied.</strong> One c for each row and one s for each column, drawn "
        "from their priors. What the encoder reads should be the same along a row.",
    ) + _figure(
        test,
        fixed_s,
        "Rows of one s, columns of one c",
        "<strong>s fixed, c varied.</strong> The reverse: one s for each row, one c for each "
        "column.",
    )


def latent_samples(method: Method, test: LabelledImages) -> str:
    """Images of numbers drawn from the prior."""
    if not _draws(method, test):
        return ""
    assert isinstance(method, LatentVariable)
    images = draw_latent(method, ROWS * COLUMNS)
    return _figure(
        test,
        images.reshape(ROWS, COLUMNS, *images.shape[1:]),
        f"{ROWS * COLUMNS} drawn images",
        f"The first {ROWS * COLUMNS} images that were drawn, all numbers from their priors, seed "
        "0.",
    )


def draw_latent(method: LatentVariable, count: int) -> Tensor:
    """(count, C, H, W) on the CPU: images of numbers drawn from their priors, from seed 0."""
    _, generator = _generator(method)
    with editing.inference(method):
        return method.sample(count, generator=generator).cpu()


def _draws(method: Method, test: LabelledImages) -> bool:
    return isinstance(method, LatentVariable) and not is_point(test.images.shape)


def _generator(method: LatentVariable) -> tuple[torch.device, torch.Generator]:
    device = next(method.parameters()).device
    return device, torch.Generator(device).manual_seed(0)


def _table(method: LatentVariable, c: Tensor, s: Tensor) -> Tensor:
    """(R, T, ·) to images (R, T, C, H, W) on the CPU."""
    with editing.inference(method):
        images = method.generate(c.flatten(0, 1), s.flatten(0, 1)).cpu()
    return images.reshape(*c.shape[:2], *images.shape[1:])


def _sized(images: Tensor, side: int) -> Tensor:
    large = same_side(images.flatten(0, 1), side)
    return large.reshape(*images.shape[:2], *large.shape[1:])


def _figure(test: LabelledImages, images: Tensor, alt: str, caption: str) -> str:
    """A picture with its caption, which is HTML already."""
    whole = picture(test, images)
    return (
        f'<figure><img src="{data_uri(whole)}" alt="{text(alt)}" '
        f'style="max-width:{whole.width}px"><figcaption>{caption}</figcaption></figure>'
    )
