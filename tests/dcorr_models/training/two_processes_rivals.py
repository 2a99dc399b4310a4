"""Run by test_distributed_rivals.py: trains LORD's toy rivals, Lr-LiVAE and VAEs on two processes.

    python -m tests.dcorr_models.training.two_processes_rivals FOLDER

Each is trained once to its end, and once with a stop in between.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from lightning_fabric import Fabric

from dcorr_models.methods import DCovVAE, FactorVAE
from dcorr_models.training.fit import LoopSettings, fit
from tests.dcorr_models.methods import (
    latent_gan_toys,
    latent_toys,
    test_cycle_vae,
    test_drnet,
    test_ml_vae,
)
from tests.dcorr_models.methods.lr_livae_toys import toy_lr_livae
from tests.dcorr_models.toy import ToyContents

MAKERS = {
    "ml_vae": test_ml_vae.toy,
    "cycle_vae": test_cycle_vae.toy,
    "drnet": lambda: test_drnet.toy(images_per_class=2),
    "lr_livae": lambda: toy_lr_livae(prior_labels="uniform"),
    "lr_livae_dcov": lambda: toy_lr_livae(gan_loss="hinge", adversary="dcov"),
    "dcov_vae": lambda: latent_toys.toy(DCovVAE),
    "factor_vae": lambda: latent_toys.toy(FactorVAE, critic_width=8),
    **{
        name: lambda name=name: latent_gan_toys.LastStage(latent_gan_toys.ALL[name]())
        for name in ("limited", "info_gan", "end_to_end", "adversarial_vae")
    },
}
RUNS = {"whole": (6,), "parts": (2, 6)}


def work(fabric: Fabric, folder: Path) -> None:
    data, weights = ToyContents().splits().train, {}
    settings = LoopSettings(progress=False, log_every=1)
    for name, make in MAKERS.items():
        for run, stops in RUNS.items():
            for stop in stops:
                model = make()
                torch.rand(fabric.global_rank + 1)  # the ranks' states are not the same here
                (stage,) = model.stages()
                stage.max_steps = stop
                fit(stage, data, fabric=fabric, folder=folder / name / run, settings=settings)
            for key, value in model.state_dict().items():
                weights[f"{name} {run} {key}"] = value
    torch.save(weights, folder / f"rank{fabric.global_rank}.pt")


def main() -> None:
    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp_spawn")
    fabric.launch(work, Path(sys.argv[1]))


if __name__ == "__main__":
    main()
