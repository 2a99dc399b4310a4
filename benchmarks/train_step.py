"""Time of one CDNet step: simultaneous against sequential, by player, and the regulariser's share.

    python benchmarks/train_step.py                    # MNIST architecture, batch 100, CPU
    python benchmarks/train_step.py --device cuda --rounds 200 --out train_step_cuda.csv

The two forms are timed in turn within one run, on the same batches; the ratio of their medians is
the number that counts on a shared machine. Before anything is timed the two forms' gradients are
compared, with dropout off and learning rates of zero: what gives another result is not timed.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from measure import Timing, machine, summary, synchronise, time_in_turn, write_rows
from torch import Tensor, nn

from dcorr_models.data import BundledDigits
from dcorr_models.methods import CDNet
from dcorr_models.methods.cdnet import DisentangleStage
from dcorr_models.training.stage import Stage

PLAYERS = ("residual_encoder", "decoder", "discriminator")


def make_stage(updates: str, fabric: Fabric, **options: Any) -> tuple[CDNet, Stage]:
    torch.manual_seed(0)
    model = CDNet(updates=updates, decorrelation_ramp=0, **options)
    stage = model.stages()[1]
    stage.setup(fabric)
    return model, stage


def check_same_gradients(batch: dict[str, Tensor], fabric: Fabric) -> float:
    """Largest relative difference of the players' gradients between the two forms."""
    grads = []
    for updates in ("simultaneous", "sequential"):
        model, stage = make_stage(updates, fabric, lr=0.0, dropout=0.0)
        stage.step(batch)
        grads.append([p.grad for n in PLAYERS for p in getattr(model, n).parameters()])
    worst = max(
        ((a - b).norm() / b.norm().clamp_min(1e-12)).item() for a, b in zip(*grads, strict=True)
    )
    if worst > 1e-3:
        raise SystemExit(f"the two forms disagree by {worst:.1e}: not timed")
    return worst


class Split:
    """Where the time of a step goes: forward by network, backward and optimizer by player."""

    def __init__(self, model: CDNet, stage: Stage, device: torch.device) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.device = device
        for name in ("label_encoder", *PLAYERS):
            self._watch_forward(name, getattr(model, name))
        update = stage.update

        def timed(name: str, *args: Any, **kwargs: Any) -> None:
            with_time(self, f"update {name}", lambda: update(name, *args, **kwargs))

        stage.update = timed  # type: ignore[method-assign]

    def _watch_forward(self, name: str, module: nn.Module) -> None:
        started: list[float] = []

        def before(*_: Any) -> None:
            synchronise(self.device)
            started.append(time.perf_counter())

        def after(*_: Any) -> None:
            synchronise(self.device)
            self.seconds[f"forward {name}"] += time.perf_counter() - started.pop()

        module.register_forward_pre_hook(before)
        module.register_forward_hook(after)


def with_time(split: Split, name: str, call: Any) -> None:
    synchronise(split.device)
    start = time.perf_counter()
    call()
    synchronise(split.device)
    split.seconds[name] += time.perf_counter() - start


def regulariser_call(stage: DisentangleStage, batch: dict[str, Tensor]) -> Any:
    """Value and gradient of the regulariser alone, on the codes of a real batch."""
    with torch.no_grad():
        codes = stage.model.encode(batch["image"])
    y, z = codes.label, codes.residual.clone().requires_grad_()
    regulariser = stage.settings.regulariser
    assert regulariser is not None
    return lambda: torch.autograd.grad(regulariser(y, z), z)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results/train_step.csv"
    )
    options = parser.parse_args()

    fabric = Fabric(accelerator=options.device, devices=1)
    device = fabric.device
    images = BundledDigits().splits().train
    batch = {k: v.to(device) for k, v in images.__getitems__(range(100)).items()}
    worst = check_same_gradients(batch, fabric)
    print(f"gradients of the two forms agree to {worst:.1e}")

    stages = {name: make_stage(name, fabric)[1] for name in ("simultaneous", "sequential")}
    calls: dict[str, Any] = {n: (lambda s=s: s.step(batch)) for n, s in stages.items()}
    _, with_none = make_stage("simultaneous", fabric, decorrelation="none")
    calls["simultaneous, no regulariser"] = lambda: with_none.step(batch)
    simultaneous = stages["simultaneous"]
    assert isinstance(simultaneous, DisentangleStage)
    calls["regulariser alone"] = regulariser_call(simultaneous, batch)
    times = time_in_turn(calls, rounds=options.rounds, warmup=options.warmup, device=device)

    description, rows = machine(device), []
    print(f"{description['device']}, {description['threads']} threads, torch {torch.__version__}")
    for name, values in times.items():
        t = summary(values)
        print(f"{name:32s} {1e3 * t.median:9.2f} ms  ({1e3 * t.low:.2f} to {1e3 * t.high:.2f})")
        rows.append(row(name, "whole", t, description))
    rows += print_split(fabric, batch, device, options, description)

    whole = summary(times["simultaneous"]).median
    ratio = whole / summary(times["sequential"]).median
    share = summary(times["regulariser alone"]).median / whole
    print(f"simultaneous / sequential: {ratio:.3f} (goal: at most 0.5)")
    print(f"regulariser's share of a simultaneous step: {share:.2%} (goal: at most 1%)")
    write_rows(options.out, rows)
    print(f"written: {options.out}")


def row(case: str, part: str, timing: Timing, description: dict[str, str]) -> dict[str, Any]:
    numbers = {f"{name}_ms": 1e3 * value for name, value in timing._asdict().items()}
    return {"case": case, "part": part, **numbers, **description}


def print_split(
    fabric: Fabric, batch: dict[str, Tensor], device: torch.device, options: Any, description: Any
) -> list[dict[str, Any]]:
    rows = []
    for updates in ("simultaneous", "sequential"):
        model, stage = make_stage(updates, fabric)
        split = Split(model, stage, device)
        samples: dict[str, list[float]] = defaultdict(list)
        for i in range(options.warmup + max(5, options.rounds // 3)):
            split.seconds.clear()
            start = time.perf_counter()
            stage.step(batch)
            synchronise(device)
            whole = time.perf_counter() - start
            if i >= options.warmup:
                for part, seconds in split.seconds.items():
                    samples[part].append(seconds)
                samples["rest"].append(whole - sum(split.seconds.values()))
        print(f"{updates}, by part ('rest': losses, and gradients passed from player to player)")
        for part, values in samples.items():
            t = summary(values)
            print(f"    {part:28s} {1e3 * t.median:9.2f} ms")
            rows.append(row(updates, part, t, description))
    return rows


if __name__ == "__main__":
    main()
