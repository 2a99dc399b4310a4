"""Time of one training step: its two forms, each network, and the regulariser's share.

    python benchmarks/train_step.py                    # CDNet, MNIST architecture, batch 100, CPU
    python benchmarks/train_step.py --size celeba --out rows.csv
    python benchmarks/train_step.py --method LrLiVAE --size mnist_small --out rows.csv
    python benchmarks/train_step.py --method IDGAN --size sprites64 --out rows.csv
    python benchmarks/train_step.py --device cuda --rounds 200 --out train_step_cuda.csv
    python benchmarks/train_step.py --device cuda --extrapolate 125000 --steps 2000

The two forms are timed in turn within one run, on the same batches; the ratio of their medians is
the number that counts on a shared machine. Before anything is timed the two forms' gradients are
compared, with dropout off and learning rates of zero: what gives another result is not timed.

`--extrapolate` times steps as the training loop makes them, with each switch for speed, and says
how long so many of them take.
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
from methods import (
    FORMS,
    METHODS,
    SIZES,
    has_forms,
    made_up_batch,
    make_joint_stages,
    make_stage,
)
from torch import Tensor, nn
from train_length import SWITCHES, extrapolate

from dcorr_models.methods import CDNet, Method
from dcorr_models.training.stage import Stage


def check_same_gradients(method: str, size: str, batch: dict[str, Tensor], fabric: Fabric) -> float:
    """Largest relative difference of the players' gradients between the two forms."""
    grads = []
    for updates in FORMS:
        _, stage = make_stage(method, size, fabric, updates=updates, lr=0.0, dropout=0.0)
        stage.step(batch)
        grads.append([p.grad for n in stage.networks.values() for p in n.parameters()])
    worst = max(
        ((a - b).norm() / b.norm().clamp_min(1e-12)).item() for a, b in zip(*grads, strict=True)
    )
    # A LeakyReLU whose input is a rounding error from 0 may take the other slope.
    if worst > 1e-2:
        raise SystemExit(f"the two forms disagree by {worst:.1e}: not timed")
    return worst


def check_shared_gradients(
    method: str, size: str, batch: dict[str, Tensor], fabric: Fabric
) -> float:
    """Largest relative difference of the gradients of a shared joint step and of one afresh."""
    grads = []
    for stage in make_joint_stages(method, size, fabric, lr=0.0):
        if "discriminator" in stage.networks:
            # Spectral norm follows the weight by one step a pass, and afresh there are more passes.
            stage.networks["discriminator"].eval()
        torch.manual_seed(1)
        stage.step(batch)
        # Not all learn in a joint step: Lr-LiVAE's Gaussians have no gradient there.
        grads.append([p.grad for n in stage.networks.values() for p in n.parameters()])
    pairs = [(a, b) for a, b in zip(*grads, strict=True) if a is not None or b is not None]
    ratios = torch.stack([(a - b).norm() / b.norm().clamp_min(1e-12) for a, b in pairs])
    worst = ratios.max().item()  # NaN where one is
    if not worst <= 1e-2:
        raise SystemExit(f"the shared step and the players afresh disagree by {worst:.1e}")
    return worst


class Split:
    """Where the time of a step goes: forward by network, backward and optimizer by player."""

    def __init__(self, stage: Stage, device: torch.device) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.device = device
        for name, network in {**stage.fixed, **stage.networks}.items():
            self._watch_forward(name, network)
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


def regulariser_call(model: Method, batch: dict[str, Tensor]) -> Any:
    """Value and gradient of CDNet's regulariser alone, on the codes of a batch."""
    assert isinstance(model, CDNet)
    with torch.no_grad():
        codes = model.encode(batch["image"])
    y, z = codes.label, codes.residual.clone().requires_grad_()
    regulariser = model.step_settings.regulariser
    assert regulariser is not None
    return lambda: torch.autograd.grad(regulariser(y, z), z)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--method", default="CDNet", choices=METHODS)
    parser.add_argument("--size", default="mnist", choices=SIZES)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--extrapolate", type=int, help="updates of the training to foretell")
    parser.add_argument("--steps", type=int, default=2000, help="updates to measure for it")
    parser.add_argument("--images", type=int, default=50_000, help="made-up images to draw from")
    parser.add_argument("--switches", nargs="*", choices=SWITCHES, help="all if left out")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results/train_step.csv"
    )
    return parser.parse_args()


def main() -> None:
    options = arguments()
    if options.extrapolate:
        rows = extrapolate(options.method, options.size, options)
        write_rows(options.out.with_stem("train_length_" + options.device), rows)
        return
    fabric = Fabric(accelerator=options.device, devices=1)
    model, stage = make_stage(options.method, options.size, fabric)
    batch = made_up_batch(model, stage.batch_size, fabric.device)
    rows = compare(options, fabric, batch)
    rows += print_split(fabric, batch, options, machine(fabric.device))
    write_rows(options.out, rows)
    print(f"written: {options.out}")


def compare(
    options: argparse.Namespace, fabric: Fabric, batch: dict[str, Tensor]
) -> list[dict[str, Any]]:
    """Whole steps in turn: each form, and for CDNet the step without its regulariser."""
    method, size = options.method, options.size
    calls: dict[str, Any] = {}
    if has_forms(method):
        if METHODS[method].same_gradients:
            worst = check_same_gradients(method, size, batch, fabric)
            print(f"gradients of the two forms agree to {worst:.1e}")
        for form in FORMS:
            model, stage = make_stage(method, size, fabric, updates=form)
            calls[form] = lambda stage=stage: stage.step(batch)
    else:
        _, stage = make_stage(method, size, fabric)
        calls["step"] = lambda: stage.step(batch)
    if METHODS[method].afresh is not None:
        calls |= joint_calls(method, size, batch, fabric)
    if method == "CDNet":
        _, with_none = make_stage(method, size, fabric, decorrelation="none")
        calls["simultaneous, no regulariser"] = lambda: with_none.step(batch)
        calls["regulariser alone"] = regulariser_call(model, batch)
    times = time_in_turn(calls, rounds=options.rounds, warmup=options.warmup, device=fabric.device)
    description, rows = machine(fabric.device), []
    print(f"{description['device']}, {description['threads']} threads, torch {torch.__version__}")
    for name, values in times.items():
        t = summary(values)
        print(f"{name:32s} {1e3 * t.median:9.2f} ms  ({1e3 * t.low:.2f} to {1e3 * t.high:.2f})")
        if name in (*FORMS, "step"):
            print(f"{'':32s} {len(batch['image']) / t.median:9.0f} images a second")
        rows.append(row(name, "whole", t, description))
    if has_forms(method):
        whole = summary(times["simultaneous"]).median
        ratio = whole / summary(times["sequential"]).median
        print(f"simultaneous / sequential: {ratio:.3f} (goal: at most 0.5)")
        if method == "CDNet":
            share = summary(times["regulariser alone"]).median / whole
            print(f"regulariser's share of a simultaneous step: {share:.2%} (goal: at most 1%)")
    if METHODS[method].afresh is not None:
        shared, afresh = (summary(times[name]).median for name in JOINT)
        print(f"{' / '.join(JOINT)}: {shared / afresh:.3f} (goal: at most 0.6)")
    return rows


JOINT = ("joint step", "joint step, players afresh")


def joint_calls(method: str, size: str, batch: dict[str, Tensor], fabric: Fabric) -> dict[str, Any]:
    """The joint step shared and afresh, on one batch; refused where their gradients differ."""
    stages = make_joint_stages(method, size, fabric)
    images = {key: rows[: stages[0].batch_size] for key, rows in batch.items()}
    worst = check_shared_gradients(method, size, images, fabric)
    print(f"gradients of the joint step and of its players afresh agree to {worst:.1e}")
    return {
        name: lambda stage=stage: stage.step(images)
        for name, stage in zip(JOINT, stages, strict=True)
    }


def row(case: str, part: str, timing: Timing, description: dict[str, str]) -> dict[str, Any]:
    numbers = {f"{name}_ms": 1e3 * value for name, value in timing._asdict().items()}
    return {"case": case, "part": part, **numbers, **description}


def print_split(
    fabric: Fabric, batch: dict[str, Tensor], options: Any, description: Any
) -> list[dict[str, Any]]:
    rows, device = [], fabric.device
    forms = [{"updates": form} for form in FORMS] if has_forms(options.method) else [{}]
    for form in forms:
        _, stage = make_stage(options.method, options.size, fabric, **form)
        updates = form.get("updates", "step")
        split = Split(stage, device)
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
