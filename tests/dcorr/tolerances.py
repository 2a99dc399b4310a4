"""The one table of tolerances, by dtype and by quantity.

Entries are relative and absolute tolerances for ``torch.testing.assert_close``. Loosening one is a
change of its own, with the reason beside it.
"""

from __future__ import annotations

import torch

# The value and the gradient against a float64 definition of the same inputs.
TOLERANCES: dict[torch.dtype, dict[str, dict[str, float]]] = {
    # The shortest road from rounding (2e-16) to the result is a sum of n² terms that partly cancel.
    torch.float64: {
        "value": {"rtol": 1e-10, "atol": 1e-12},
        "gradient": {"rtol": 1e-8, "atol": 1e-10},
    },
    # 1e-5 of the float64 value is the goal of the whole library; gradients are sums of n unit
    # vectors, each of which carries the rounding of one difference.
    torch.float32: {
        "value": {"rtol": 1e-5, "atol": 1e-6},
        "gradient": {"rtol": 1e-4, "atol": 1e-6},
    },
    # Computed in float32, rounded once: half a unit in the last place of the result, with room for
    # one more rounding.
    torch.float16: {
        "value": {"rtol": 1e-3, "atol": 1e-6},
        "gradient": {"rtol": 2e-3, "atol": 1e-6},
    },
    torch.bfloat16: {
        "value": {"rtol": 8e-3, "atol": 1e-6},
        "gradient": {"rtol": 1.6e-2, "atol": 1e-6},
    },
}


def tolerance(dtype: torch.dtype, quantity: str) -> dict[str, float]:
    """Return ``{"rtol": ..., "atol": ...}`` for a dtype and ``"value"`` or ``"gradient"``."""
    return dict(TOLERANCES[dtype][quantity])
