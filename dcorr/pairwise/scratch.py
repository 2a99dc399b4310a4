"""Memory for what lives no longer than a block of pairs.

A fresh matrix costs more than what is done to it: the system hands out and clears its pages one by
one. So each thread keeps a few blocks' worth, some megabytes, for the next block and the next call.
"""

from __future__ import annotations

import math
import threading

import torch
from torch import Tensor


class _Buffers(threading.local):
    def __init__(self) -> None:
        self.by_key: dict[tuple[str, torch.dtype], Tensor] = {}


_buffers = _Buffers()

# Numbers up to which a buffer is kept.
KEPT = 1 << 19


def scratch(name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Return uninitialised memory, which the next call with this name and dtype returns again."""
    size = math.prod(shape)
    if like.device.type != "cpu" or size > KEPT or not _is_plain(like):
        return like.new_empty(shape)
    key = name, like.dtype
    buffer = _buffers.by_key.get(key)
    if buffer is None or buffer.numel() < size:
        # Not under inference mode, whose tensors other calls could not write to.
        with torch.inference_mode(False):
            buffer = torch.empty(size, dtype=like.dtype, device=like.device)
        _buffers.by_key[key] = buffer
    return buffer[:size].view(shape)


def _is_plain(t: Tensor) -> bool:
    """Tell whether memory made now is real memory, and nobody records what is written to it.

    Fake tensors, and whatever traces the operations on tensors, must not leave theirs to later
    calls, nor find that of earlier ones.
    """
    modes: int = torch._C._len_torch_dispatch_stack()
    return type(t) is Tensor and modes == 0 and torch._C._get_tracing_state() is None
