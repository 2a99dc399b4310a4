"""Triton's interpreter, with which kernels run on a CPU: what tests must do before they use it.

Triton decides when it is imported whether kernels are compiled or interpreted, so a whole process
does one or the other: ``TRITON_INTERPRET=1 pytest tests/dcorr/test_fused.py``, or
``make test-fused``.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

HAS_TRITON = find_spec("triton") is not None
INTERPRETED = HAS_TRITON and os.environ.get("TRITON_INTERPRET") == "1"


def mend() -> None:
    """Let the interpreter count loops with numpy 2.4: Triton 3.6 makes an int of an array."""
    from triton.runtime import interpreter

    if getattr(interpreter, "mended", False):
        return
    patch = interpreter._patch_lang_tensor

    def patch_and_mend(tensor: Any, scope: Any) -> None:
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    interpreter._patch_lang_tensor = patch_and_mend
    interpreter.mended = True
