"""How long a training of so many updates takes, from measured ones, with each switch for speed."""

from __future__ import annotations

import time
from typing import Any

import torch
from lightning_fabric import Fabric
from measure import machine, synchronise
from methods import make_stage

from dcorr_models.data import LabelledImages
from dcorr_models.training.batches import batches
from dcorr_models.training.execution import Execution
from dcorr_models.training.logs import Meter
from dcorr_models.training.sampler import StepBatchSampler

SWITCHES: dict[str, tuple[str, Execution]] = {
    "as it is": ("32-true", Execution()),
    "channels_last": ("32-true", Execution(channels_last=True)),
    "channels_last, bf16": ("bf16-mixed", Execution(channels_last=True)),
    "channels_last, compile": ("32-true", Execution(channels_last=True, compile=True)),
    "channels_last, bf16, compile": ("bf16-mixed", Execution(channels_last=True, compile=True)),
    "channels_last, bf16, compile, cuda_graphs": (
        "bf16-mixed",
        Execution(channels_last=True, compile=True, cuda_graphs=True),
    ),
}


def made_up_images(model: Any, count: int) -> LabelledImages:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(
        0, 256, (count, *model.image_shape), generator=generator, dtype=torch.uint8
    )
    if model.multilabel:
        labels = torch.randint(0, 2, (count, model.num_labels), generator=generator).float()
    else:
        labels = torch.randint(0, max(1, model.num_labels), (count,), generator=generator)
    return LabelledImages(images, labels, value_range=model.value_range or (0.0, 1.0))


def seconds_a_step(method: str, size: str, switch: str, options: Any) -> float:
    """Mean over `options.steps` steps as `fit` makes them: batches drawn, logs summed."""
    precision, execution = SWITCHES[switch]
    fabric = Fabric(accelerator=options.device, devices=1, precision=precision)
    model, stage = make_stage(method, size, fabric, execution)
    data = made_up_images(model, options.images)
    sampler = StepBatchSampler(
        len(data), batch_size=stage.batch_size, seed=0,
        start=0, stop=options.warmup + options.steps,
    )  # fmt: skip
    meter, began = Meter(), 0.0
    for number, batch in enumerate(batches(data, sampler, fabric, seed=0)):
        if number == options.warmup:
            synchronise(fabric.device)
            began = time.perf_counter()
        meter.add(stage.step(execution.place(batch)))
        if (number + 1) % 100 == 0:
            values = meter.flush()[1]
            if not bool(values.isfinite().all()):
                raise SystemExit(f"{switch}: a loss is not finite: not timed")
    synchronise(fabric.device)
    taken = (time.perf_counter() - began) / options.steps
    stage.teardown()
    return taken


def extrapolate(method: str, size: str, options: Any) -> list[dict[str, Any]]:
    """A row for each switch: milliseconds a step, and the time of `options.extrapolate` steps."""
    rows = []
    for switch in options.switches or SWITCHES:
        step = seconds_a_step(method, size, switch, options)
        minutes = step * options.extrapolate / 60
        print(
            f"{method} {size}, {switch:42s} {1e3 * step:9.2f} ms a step, "
            f"{options.extrapolate} steps in {minutes:.1f} minutes",
            flush=True,
        )
        rows.append(
            {
                "case": f"{method} {size}", "part": switch, "median_ms": 1e3 * step,
                "steps": options.steps, "extrapolated_steps": options.extrapolate,
                "minutes": minutes, **machine(torch.device(options.device)),
            }
        )  # fmt: skip
    return rows
