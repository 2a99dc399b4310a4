"""Sprites drawn in whole batches: squares, ellipses and hearts, without jagged edges."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["COLOURS", "RADIUS", "SHAPES", "draw_coverage", "draw_sprites"]

SHAPES = ("square", "ellipse", "heart")
# the corners of the cube of colours, without the black one
COLOURS = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "magenta": (255, 0, 255),
    "cyan": (0, 255, 255),
    "white": (255, 255, 255),
}
RADIUS = 0.3
"""Of the circle around a sprite of scale 1, in sides of the image; sprites never leave it."""

_LONG = 2.0  # the ellipse's longer axis over its shorter one
# The heart is a square that stands on a corner, with half a disc on each of its upper sides. In
# units of half its diagonal: how far above the square's centre the middle of the smallest circle
# around it lies. That circle touches the lower corner and both discs.
_LIFT = 1 - math.sqrt(0.5)
_HEART_MIDDLE = (0.5 - _LIFT**2) / (1 + 2 * _LIFT)
# Some images at a time, so that what is computed on the way stays in the processor's cache.
_PIXELS_AT_ONCE = 2**17


def draw_sprites(
    shape: Tensor,
    colour: Tensor,
    scale: Tensor,
    angle: Tensor,
    x: Tensor,
    y: Tensor,
    *,
    side: int,
) -> Tensor:
    """Coloured images of one sprite each on black ground.

    Args:
        shape: As for `draw_coverage`, and so are `scale`, `angle`, `x`, `y` and `side`.
        colour: Number in `COLOURS`, int64 of shape (N,).
        scale: Above.
        angle: Above.
        x: Above.
        y: Above.
        side: Above.

    Returns:
        uint8 tensor of shape (N, 3, side, side).

    Example:
        >>> one, half = torch.ones(1), torch.full((1,), 0.5)
        >>> image = draw_sprites(one.long() * 0, one.long(), one, half * 0, half, half, side=8)
        >>> image[0, 1, 3].tolist(), image[0, 0].max().item()  # a green square
        ([0, 0, 178, 255, 255, 178, 0, 0], 0)
    """
    grey = draw_coverage(shape, scale, angle, x, y, side=side)
    channels = torch.tensor(list(COLOURS.values()), dtype=torch.uint8)[colour]
    return grey & channels[:, :, None, None]  # a channel of a colour has all bits or none


def draw_coverage(
    shape: Tensor, scale: Tensor, angle: Tensor, x: Tensor, y: Tensor, *, side: int
) -> Tensor:
    """White images of one sprite each on black ground.

    A pixel's brightness is the share of it that the sprite covers: 1/2 - d, within 0 and 1, where
    d is the distance of its centre from the outline in pixels, negative inside. Only operations
    that are exactly rounded on every machine follow the sine and cosine of the angle, so an image
    does not depend on those that are drawn with it.

    Args:
        shape: Number in `SHAPES`, int64 of shape (N,).
        scale: 1 for a sprite that fills a circle of `RADIUS`, float of shape (N,).
        angle: Turn against the clock in radians, float of shape (N,).
        x: From 0, where the sprite touches the left edge at scale 1, to 1, the right one.
        y: From 0, the upper edge, to 1, the lower one.
        side: Of the images in pixels.

    Returns:
        uint8 tensor of shape (N, 1, side, side).
    """
    radius = scale.double() * RADIUS * side
    right, up = _offsets(x, y, side)
    cos, sin = angle.double().cos().unsqueeze(1), angle.double().sin().unsqueeze(1)
    # coordinates along the sprite's own axes are sums of a row's and a column's part, (N, side)
    parts = [part.float() for part in (cos * right, sin * up, -sin * right, cos * up)]
    grey = torch.empty(len(shape), 1, side, side, dtype=torch.uint8)
    count = max(1, _PIXELS_AT_ONCE // side**2)
    for number, distance in enumerate((_square, _ellipse, _heart)):
        for rows in torch.split((shape == number).nonzero().squeeze(1), count):
            u_row, u_column, v_row, v_column = (part[rows] for part in parts)
            u = u_row.unsqueeze(1) + u_column.unsqueeze(2)
            v = v_row.unsqueeze(1) + v_column.unsqueeze(2)
            d = distance(u, v, radius[rows].float()[:, None, None])
            covered = d.neg_().add_(0.5).clamp_(0, 1)
            grey[rows, 0] = covered.mul_(255).round_().to(torch.uint8)
    return grey


def _offsets(x: Tensor, y: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """From the sprites' centres to those of the pixels, to the right and up, (N, side) each."""
    first, room = RADIUS * side, (1 - 2 * RADIUS) * side
    pixels = torch.arange(side, dtype=torch.float64) + 0.5
    right = pixels - (first + room * x.double()).unsqueeze(1)
    up = (first + room * y.double()).unsqueeze(1) - pixels
    return right, up


def _square(u: Tensor, v: Tensor, radius: Tensor) -> Tensor:
    return torch.maximum(u.abs_(), v.abs_()).sub_(radius * math.sqrt(0.5))


def _ellipse(u: Tensor, v: Tensor, radius: Tensor) -> Tensor:
    """Distance to first order: (q - 1) / |grad q|, with q = 1 on the outline."""
    a, b = radius, radius / _LONG
    u, v = u.div_(a), v.div_(b)
    q = (u * u).add_(v * v).sub_(1)
    slope = (u.div_(a).square_()).add_(v.div_(b).square_()).sqrt_().mul_(2)
    return q.div_(slope)  # at the very centre -1/0, far inside


def _heart(u: Tensor, v: Tensor, radius: Tensor) -> Tensor:
    half = radius / (1 + _HEART_MIDDLE)  # of the square's diagonal
    u, v = u.abs_(), v.add_(half * _HEART_MIDDLE)
    square = (u + v.abs()).sub_(half).mul_(math.sqrt(0.5))
    disc = u.sub_(half / 2).square_().add_(v.sub_(half / 2).square_()).sqrt_()
    return torch.minimum(square, disc.sub_(half * math.sqrt(0.5)))
