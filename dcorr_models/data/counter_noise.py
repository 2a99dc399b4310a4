"""Random bytes that are a pure function of a number: no generator, no state, every device alike."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["random_bytes"]


def random_bytes(numbers: Tensor, count: int, *, seed: int = 0) -> Tensor:
    """Uniform bytes for each number, the same ones whichever numbers stand beside it.

    Number and seed become 64 bits by splitmix64's finaliser; word w of an image's bytes is
    `f(f(w + low half) ^ high half)` with f the finaliser of MurmurHash3, a bijection of 32 bits.
    Integers wrap alike on every device, so a GPU makes the bytes that a CPU makes.

    Args:
        numbers: int64 of shape (N,).
        count: Bytes for each.
        seed: Any integer of 64 bits.

    Returns:
        uint8 tensor of shape (N, count) on the numbers' device.

    Example:
        >>> random_bytes(torch.tensor([3, 4]), 5)
        tensor([[ 40, 210, 211, 159, 233],
                [141,  64, 152, 156, 110]], dtype=torch.uint8)

    Reference:
        Steele, Lea and Flood, Fast splittable pseudorandom number generators, 2014. Appleby,
        MurmurHash3, 2011.
    """
    offset = (seed * 0x9E3779B97F4A7C15 + 2**63) % 2**64 - 2**63
    keys = _mix_64(numbers.to(torch.int64) + offset).view(torch.int32).reshape(-1, 2, 1)
    words = torch.arange(-(-count // 4), dtype=torch.int32, device=numbers.device)
    mixed = _mix_32(_mix_32(words + keys[:, 0]) ^ keys[:, 1])
    return mixed.view(torch.uint8)[:, :count]


def _mix_64(x: Tensor) -> Tensor:
    x = (x ^ _shifted(x, 30, 64)) * (0xBF58476D1CE4E5B9 - 2**64)
    x = (x ^ _shifted(x, 27, 64)) * (0x94D049BB133111EB - 2**64)
    return x ^ _shifted(x, 31, 64)


def _mix_32(x: Tensor) -> Tensor:
    """In place: this is where the time goes."""
    x = x.bitwise_xor_(_shifted(x, 16, 32)).mul_(0x85EBCA6B - 2**32)
    x = x.bitwise_xor_(_shifted(x, 13, 32)).mul_(0xC2B2AE35 - 2**32)
    return x.bitwise_xor_(_shifted(x, 16, 32))


def _shifted(x: Tensor, places: int, bits: int) -> Tensor:
    """To the right with zeros from the left; torch's own shift repeats the sign."""
    return (x >> places).bitwise_and_((1 << (bits - places)) - 1)
