"""Images per second of the sprites that are drawn on the fly; the goal is 20,000 on two cores.

    python benchmarks/sprites.py
    python benchmarks/sprites.py --size 32 --threads 1 --out sprites.csv
    python benchmarks/sprites.py --kind grey noisy scream --size 64 --threads 1

Batches come from the data set as training asks for them: random rows of the grid, drawn, as floats
in [0, 1]. The load of the machine is printed: where others compute at the same time, the seconds of
the processor that the threads have used tell more than those of the clock, and both are reported.
"""

from __future__ import annotations

import argparse
import os
import time
from itertools import product
from pathlib import Path
from typing import Any

import torch
from measure import machine, summary, write_rows

from dcorr_models.data import GreySprites, LabelledImages, Sprites, SpriteVariant

BATCH_SIZE = 128
VARIANTS = ("colour_id_gan", "colour_lib", "noisy", "scream")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument(
        "--kind", nargs="+", default=["coloured"], choices=["coloured", "grey", *VARIANTS]
    )
    parser.add_argument("--keep", action="store_true", help="grey ones are drawn once beforehand")
    parser.add_argument("--size", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batches", type=int, default=16, help="of a round")
    parser.add_argument("--out", type=Path, help="CSV file; by default nothing is written")
    options = parser.parse_args()
    rows = []
    for kind, size in product(options.kind, options.size):
        train = images_of(kind, size, keep=options.keep)
        for threads in options.threads:
            torch.set_num_threads(threads)
            timing = timed(kind, train, options.rounds, options.batches)
            rows.append({"kind": kind, "kept": options.keep, **timing})
    if options.out:
        write_rows(options.out, rows)
        print(f"written: {options.out}")


def images_of(kind: str, size: int, *, keep: bool) -> LabelledImages:
    if kind == "coloured":
        return Sprites(size=size, keep=keep).splits().train
    grey = GreySprites(size=size, images=20_000, keep=keep)
    data = SpriteVariant(grey, variant=kind) if kind in VARIANTS else grey
    return data.splits().train


def timed(kind: str, data: LabelledImages, rounds: int, batches: int) -> dict[str, Any]:
    order = torch.randint(len(data), (batches, BATCH_SIZE)).tolist()
    clock, processor = [], []
    for number in range(rounds + 1):
        wall, used = time.perf_counter(), time.process_time()
        for indices in order:
            data.__getitems__(indices)
        if number:  # the first round warms up
            clock.append((time.perf_counter() - wall) / batches / BATCH_SIZE)
            processor.append((time.process_time() - used) / batches / BATCH_SIZE)
    seconds, cpu_seconds = summary(clock), summary(processor)
    size, threads = data.images.shape[-1], torch.get_num_threads()
    load = os.getloadavg()[0]
    print(
        f"{kind}, {size} pixels, {threads} threads: "
        f"{1 / seconds.median:9,.0f} images/s by the clock "
        f"({1 / seconds.high:,.0f} to {1 / seconds.low:,.0f}), {1 / cpu_seconds.median:9,.0f} a "
        f"second of one processor; load {load:.1f} on {os.cpu_count()} processors"
    )
    return {
        "size": size,
        "images_a_second": 1 / seconds.median,
        "images_a_processor_second": 1 / cpu_seconds.median,
        "load": load,
        **machine(torch.device("cpu")),
    }


if __name__ == "__main__":
    main()
