"""Images per second out of a mapped cache, against what a training step of CDNet on CelebA takes.

    python benchmarks/data_pipeline.py                          # the loader alone, CPU
    python benchmarks/data_pipeline.py --device cuda            # and the steps that it feeds
    python benchmarks/data_pipeline.py --device cuda --celeba data/celeba   # with the real images

The loader is the one that `dcorr-models train` uses. A step is timed in blocks without a wait in
between, as in a training: one block on a fixed batch, one with each way of loading, in turn, and
again. The goal on CUDA is a step with loading within 5% of the step on a fixed batch.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from measure import Timing, machine, summary, synchronise, write_rows
from PIL import Image
from torch import Tensor

from dcorr_models.data import CelebA, LabelledImages
from dcorr_models.data.celeba_crops import CROPS, crop_image
from dcorr_models.data.image_cache import cached_images
from dcorr_models.data.image_files import open_picture
from dcorr_models.methods import CDNet
from dcorr_models.training.batches import batches
from dcorr_models.training.sampler import StepBatchSampler

Batch = dict[str, Tensor]
BATCH_SIZE = 128


def mapped_noise(count: int, folder: Path) -> LabelledImages:
    """Images in a cache like CelebA's; the time to load them does not depend on what they show."""

    def fill(images: np.ndarray) -> tuple[int, ...]:
        random = np.random.default_rng(0)
        for first in range(0, count, 4096):
            part = images[first : first + 4096]
            part[:] = random.integers(0, 256, size=part.shape, dtype=np.uint8)
        return ()

    images = cached_images(folder / "noise.npy", (count, 3, 64, 64), fill).images
    labels = torch.from_numpy(np.random.default_rng(1).integers(0, 2, size=(count, 40)))
    return LabelledImages(torch.from_numpy(images), labels.float(), value_range=(-1.0, 1.0))


def endless(data: LabelledImages, fabric: Fabric, **options: Any) -> Iterator[Batch]:
    sampler = StepBatchSampler(len(data), batch_size=BATCH_SIZE, seed=0, start=0, stop=10**6)
    return iter(batches(data, sampler, fabric, seed=0, **options))


def seconds_a_batch(
    source: Iterator[Batch], use: Callable[[Batch], Any], count: int, device: torch.device
) -> float:
    """Mean of a block; the device is waited for at its end alone."""
    synchronise(device)
    start = time.perf_counter()
    for batch in islice(source, count):
        use(batch)
    synchronise(device)
    return (time.perf_counter() - start) / count


def in_turn(
    cases: dict[str, tuple[Iterator[Batch], Callable[[Batch], Any]]],
    rounds: int,
    count: int,
    device: torch.device,
) -> dict[str, Timing]:
    for source, use in cases.values():  # starts workers and kernels
        seconds_a_batch(source, use, 3, device)
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, (source, use) in cases.items():
            times[name].append(seconds_a_batch(source, use, count, device))
    return {name: summary(values) for name, values in times.items()}


def make_step(fabric: Fabric, architecture: str) -> Callable[[Batch], Any]:
    torch.manual_seed(0)
    model = CDNet(
        image_shape=(3, 64, 64),
        num_labels=40,
        multilabel=True,
        latent_dim=1000,
        architecture=architecture,
        batch_size=BATCH_SIZE,
    )
    stage = model.stages()[1]
    stage.setup(fabric)
    return stage.step


def decoding(count: int) -> Timing:
    """Seconds to decode, cut and shrink one JPEG in one process, as at the first use of CelebA."""
    smooth = np.random.default_rng(0).integers(0, 256, size=(28, 23, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(smooth).resize((178, 218), Image.Resampling.BICUBIC).save(buffer, "JPEG")
    times = []
    for _ in range(count):
        start = time.perf_counter()
        crop_image(open_picture(buffer.getvalue()), CROPS["cdnet"], 64)
        times.append(time.perf_counter() - start)
    return summary(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, help="of a block; 50 on CUDA, 0 on a CPU: none")
    parser.add_argument("--images", type=int, default=20_000, help="made-up ones")
    parser.add_argument(
        "--celeba", type=Path, help="folder of the release, instead of made-up ones"
    )
    parser.add_argument("--architecture", default="celeba", choices=["celeba", "faces_small"])
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--out", type=Path, help="CSV file; by default nothing is written")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = (
            CelebA(options.celeba).splits().train
            if options.celeba
            else mapped_noise(options.images, Path(folder))
        )
        rows = measure(data, options)
    if options.out:
        write_rows(options.out, rows)
        print(f"written: {options.out}")


def measure(data: LabelledImages, options: argparse.Namespace) -> list[dict[str, Any]]:
    fabric = Fabric(accelerator=options.device, devices=1)
    device, description = fabric.device, machine(fabric.device)
    print(f"{description['device']}, {description['threads']} threads, torch {torch.__version__}")
    print(f"{len(data)} images of {tuple(data.images.shape[1:])}, batches of {BATCH_SIZE}")
    ways: dict[str, dict[str, Any]] = {
        f"loader, {n} workers": {"workers": n, "on_device": "never"} for n in options.workers
    }
    ways["data on the device"] = {"on_device": "always"}
    sources = {name: endless(data, fabric, **way) for name, way in ways.items()}
    loaded = in_turn({n: (s, len) for n, s in sources.items()}, options.rounds, 50, device)
    print("\nloading alone")
    for name, timing in loaded.items():
        print(f"{name:24s} {BATCH_SIZE / timing.median:9,.0f} images/s")
    results = {f"load: {name}": timing for name, timing in loaded.items()}
    results["decode one JPEG"] = decoding(50)
    print(f"decoding, one process    {1 / results['decode one JPEG'].median:9,.0f} images/s")
    if options.steps is None:
        options.steps = 50 if device.type == "cuda" else 0
    if options.steps:
        results |= timed_steps(
            sources, make_step(fabric, options.architecture), options, fabric.device
        )
    numbers = {
        name: {f"{key}_ms": 1e3 * value for key, value in timing._asdict().items()}
        for name, timing in results.items()
    }
    return [{"case": name, **values, **description} for name, values in numbers.items()]


def timed_steps(
    sources: dict[str, Iterator[Batch]],
    step: Callable[[Batch], Any],
    options: argparse.Namespace,
    device: torch.device,
) -> dict[str, Timing]:
    fixed = cycle([next(next(iter(sources.values())))])
    cases = {name: (source, step) for name, source in {"fixed batch": fixed, **sources}.items()}
    times = in_turn(cases, options.rounds, options.steps, device)
    print(f"\na step of CDNet's second stage, architecture {options.architecture}")
    whole = times["fixed batch"].median
    for name, timing in times.items():
        print(
            f"{name:24s} {1e3 * timing.median:9.2f} ms  {BATCH_SIZE / timing.median:9,.0f} images/s"
            f"  {timing.median / whole - 1:+.1%}" + ("" if name == "fixed batch" else " (goal: 5%)")
        )
    return {f"step: {name}": timing for name, timing in times.items()}


if __name__ == "__main__":
    main()
