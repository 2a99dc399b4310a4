"""What a backend is, and what goes into and comes out of one.

A backend is a module of this package with the functions of :class:`Backend`. Which exist, and which
of them is taken for a problem, stands in the table of :mod:`dcorr.pairwise`.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

Pair = tuple[int, int]
"""Which two sides a product is of; ``(0, 0)`` is a variance."""

PAIRS: tuple[Pair, ...] = ((0, 1), (0, 0), (1, 1))


class Moments(NamedTuple):
    """What a forward pass returns, in float64 where the device has it."""

    products: dict[Pair, Tensor]
    """``(B,)`` each: the mean products of centred distances."""
    rows: list[Tensor]
    """``(B, N)`` a side: the row means of distances, not centred."""
    kept: list[Tensor]
    """``(B, ...)`` each: what the backward pass is given back."""


class Incoming(NamedTuple):
    """Gradients of a loss with respect to moments: ``(B,)`` a product, ``(B, N)`` row means."""

    products: dict[Pair, Tensor]
    rows: list[Tensor | None]
    row_means: list[Tensor]
    """The row means themselves, as the forward pass returned them."""


class Backend(Protocol):
    """One way to sum over pairs. Samples are ``(B, N, P)``, one or two; weights ``(B, N)``."""

    def forward(
        self, samples: list[Tensor], weights: Tensor | None, exponent: float, variances: bool
    ) -> Moments:
        """Return the product of two sides, their variances if wanted, and the row means."""

    def backward(
        self,
        samples: list[Tensor],
        weights: Tensor | None,
        exponent: float,
        incoming: Incoming,
        wanted: list[bool],
        kept: list[Tensor],
    ) -> list[Tensor | None]:
        """Return the gradients of the samples and, last, of the weights; ``None`` if unwanted."""

    def keeps(
        self, samples: list[Tensor], exponent: float
    ) -> list[tuple[tuple[int, ...], torch.dtype]]:
        """Return shape (without the batch) and dtype of everything that ``forward`` keeps."""
