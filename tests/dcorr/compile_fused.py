"""Compile the fused kernels for CUDA devices that need not be there: ``python -m`` this file.

Prints a line a kernel: its name, the device, registers, bytes of spilled registers and of shared
memory. It stands a driver in for the device's, and stops before the launch.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from dcorr.pairwise import fused
from dcorr.pairwise.backend import PAIRS, Incoming

F64, F32 = torch.float64, torch.float32
# n, p, q, dtype, exponent, weights and row gradients too
PROBLEMS = [
    (65_536, 64, 64, F32, 1.0, False),
    (1_000_000, 16, 16, F32, 1.0, False),
    (200, 10, 10, F32, 1.0, False),  # computed in float64
    (4097, 300, 3, F32, 1.0, True),
    (4097, 20, 130, F32, 1.5, True),
    (5000, 1, 20, F64, 0.5, True),
]


class Absent:
    """As much of a driver as compiling takes."""

    capability = 90

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self) -> int:
        return self.capability

    def get_current_stream(self, device: int = 0) -> int:
        return 0


def usage(kernel: Any) -> str:
    """Registers and stack of a compiled kernel, as the device's own tool reads them."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        command = [str(tool), "--dump-resource-usage", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    registers, stack = re.findall(r"REG:(\d+) STACK:(\d+)", text)[-1]
    return f"registers {registers} spilled {stack} shared {kernel.metadata.shared}"


def main(capabilities: list[int]) -> None:
    absent = Absent()
    driver.set_active(absent)
    run, seen = JITFunction.run, set()

    def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> None:
        kernel = run(self, *args, grid=grid, warmup=True, **options)
        if kernel is not None and kernel.hash not in seen:
            seen.add(kernel.hash)
            print(f"{self.fn.__name__} sm_{absent.capability} {usage(kernel)}", flush=True)

    JITFunction.run = compile_only
    fused.processors = lambda device: 132
    for absent.capability in capabilities:
        for n, p, q, dtype, exponent, all_of_it in PROBLEMS:
            x, y = (torch.zeros(1, n, k, dtype=dtype) for k in (p, q))
            weights = torch.full((1, n), 1 / n, dtype=dtype) if all_of_it else None
            fused.forward([x, y], weights, exponent, all_of_it)
            rows = torch.zeros(1, n, dtype=F64)
            given = dict.fromkeys(PAIRS if all_of_it else PAIRS[:1], torch.zeros(1, dtype=F64))
            incoming = Incoming(given, [rows if all_of_it else None] * 2, [rows, rows])
            fused.backward([x, y], weights, exponent, incoming, [True, True, all_of_it], [])


if __name__ == "__main__":
    main([int(argument) for argument in sys.argv[1:]] or [90])
