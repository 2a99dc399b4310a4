"""Peak extra memory of a call: what it needs beyond its inputs, results included.

On the CPU in a process of its own. Libraries, compiled code and buffers of the thread pools are
there before: the same call on 64 samples has run. What the allocator holds free is handed back, the
kernel's mark of the highest resident size (VmHWM) is set back to the present one, the call runs
once, and the mark is read. On CUDA the allocator of torch counts, in the same process.

    python benchmarks/memory.py '{"rival": "cdist", "n": 4096, "p": 10, "q": 64}'
"""

from __future__ import annotations

import ctypes
import gc
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peers import RIVALS, Work, samples

MB = 1e6
WARM_UP_SAMPLES = 64


def peak_mb(rival: str, n: int, p: int, q: int, dtype: str, device: str, threads: int) -> float:
    """Megabytes (10⁶ bytes) of value and gradient, or of the value where there is no gradient."""
    if device == "cuda":
        return _on_cuda(_call(RIVALS[rival].make(*samples(n, p, q, dtype=dtype, device=device))))
    settings = {"rival": rival, "n": n, "p": p, "q": q, "dtype": dtype, "threads": threads}
    run = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), json.dumps(settings)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if run.returncode:
        raise RuntimeError(f"the process that measures memory failed:\n{run.stderr}")
    return float(run.stdout.splitlines()[-1])


def _on_cuda(call: Callable[[], Any]) -> float:
    call()
    torch.cuda.synchronize()
    gc.collect()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / MB


def extra_on_cpu(call: Callable[[], Any]) -> float:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    # "5" sets VmHWM back to VmRSS: see proc_pid_clear_refs(5).
    Path("/proc/self/clear_refs").write_text("5")
    before = _kilobytes("VmHWM")
    call()
    return (_kilobytes("VmHWM") - before) * 1024 / MB


def _kilobytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))


def _call(work: Work) -> Callable[[], Any]:
    chosen = work.both or work.forward
    assert chosen is not None
    return chosen


def main() -> None:
    settings = {"dtype": "float32", "threads": torch.get_num_threads(), **json.loads(sys.argv[1])}
    torch.set_num_threads(settings["threads"])
    rival, shape = RIVALS[settings["rival"]], [settings[name] for name in ("n", "p", "q")]
    _call(rival.make(*samples(WARM_UP_SAMPLES, *shape[1:], dtype=settings["dtype"])))()
    call = _call(rival.make(*samples(*shape, dtype=settings["dtype"])))
    print(extra_on_cpu(call))


if __name__ == "__main__":
    main()
