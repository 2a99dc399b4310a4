"""Seconds of FVM, MIG and the Fréchet distance on 10,000 images; the goal is 60 on two cores.

    python benchmarks/disentanglement.py
    python benchmarks/disentanglement.py --samples 1000 --network-images 1000 --epochs 1

dSprites' grid, drawn in grey at 64 pixels, and ID-GAN's networks for it. Their weights are random:
that changes no time. Codes are standardised before they are measured, so that no dimension counts
as collapsed. Seconds of the clock and of the processor stand beside each other; the load of the
machine says which of them tells more.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import TypeVar

import torch

from dcorr_models.data import GreySprites
from dcorr_models.evaluation.disentanglement import posterior_of
from dcorr_models.evaluation.disentanglement_protocol import DisentanglementProtocol
from dcorr_models.evaluation.image_pool import Pool
from dcorr_models.evaluation.latent_samples import drawn_images
from dcorr_models.methods import BetaVAE
from dcorr_models.metrics.factor_vae_metric import factor_vae_metric
from dcorr_models.metrics.mutual_information_gap import mutual_information_gap

T = TypeVar("T")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--network-images", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = GreySprites()
    splits = data.splits()
    method = BetaVAE(image_shape=data.image_shape, latent_dim=10)
    protocol = DisentanglementProtocol(
        samples=options.samples,
        network_images=options.network_images,
        network_epochs=options.epochs,
    )
    began, used = time.perf_counter(), time.process_time()
    pool = Pool(splits)
    rows = pool.rows(options.samples, seed=0)
    means = timed("encoded", lambda: posterior_of(method, pool, rows)).mean
    codes = (means - means.mean(dim=0)) / means.std(dim=0)
    assert pool.factors is not None, "its own sprites know their factors"
    factors = pool.factors[rows]
    timed("FVM", lambda: factor_vae_metric(codes, factors))
    timed("MIG", lambda: mutual_information_gap(codes, factors))
    drawn = timed(
        "Fréchet distance, its network trained",
        lambda: drawn_images(method, splits, protocol, seed=0, names=data.factor_names),
    )
    per_factor = ", ".join(
        f"{name} {share:.1%}"
        for name, share in zip(
            drawn["network"]["names"], drawn["network"]["per_factor"], strict=True
        )
    )
    print(f"the network reads {per_factor}")
    print(
        f"all: {time.perf_counter() - began:.1f} s by the clock, "
        f"{time.process_time() - used:.1f} s of processors; {options.threads} threads, load "
        f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} processors"
    )


def timed(name: str, call: Callable[[], T]) -> T:
    """The call's result; its seconds are printed."""
    began, used = time.perf_counter(), time.process_time()
    result = call()
    clock, processor = time.perf_counter() - began, time.process_time() - used
    print(f"{name}: {clock:.1f} s by the clock, {processor:.1f} s of processors", flush=True)
    return result


if __name__ == "__main__":
    main()
