"""A mode in which reading a value from a tensor fails, as it would make a GPU's queue run dry."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# What reads a value, or needs one to know the shape of its result.
WAITS = {
    "aten::_local_scalar_dense",
    "aten::equal",
    "aten::is_nonzero",
    "aten::item",
    "aten::masked_select",
    "aten::nonzero",
    "aten::repeat_interleave.Tensor",
    "aten::_unique2",
}


class NoHostSync(TorchDispatchMode):
    """Raise on every operation that waits for the device."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func._schema.name
        overload = func._schema.overload_name
        if name in WAITS or f"{name}.{overload}" in WAITS:
            raise AssertionError(f"{name} waits for the device")
        if name == "aten::_to_copy":
            device = (kwargs or {}).get("device")
            if device is not None and torch.device(device).type != args[0].device.type:
                raise AssertionError("a copy between devices waits for both")
        return func(*args, **(kwargs or {}))
