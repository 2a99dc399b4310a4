"""Run by test_lord_processes.py: trains a toy LORD on two gloo processes, each writes its tables.

python -m tests.dcorr_models.training.two_processes_lord FOLDER VARIANT
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from lightning_fabric import Fabric

from dcorr_models.training.fit import LoopSettings, fit
from tests.dcorr_models.methods.lord_toys import toy_lord
from tests.dcorr_models.toy import ToyContents


def work(fabric: Fabric, folder: Path, variant: str) -> None:
    """Without noise, so that one process and two can be compared."""
    data = ToyContents().splits().train
    # Other codes on each rank at first: the first rank's are the ones that count.
    model = toy_lord(seed=fabric.global_rank, variant=variant, sigma=0.0, betas=(0.5, 0.9))
    for stage in model.stages():
        fit(
            stage,
            data,
            fabric=fabric,
            folder=folder,
            seed=5,
            settings=LoopSettings(progress=False, log_every=10),
        )
    tables = {f"table {i}": t.weight for i, t in enumerate(model.content_codes)}
    torch.save(model.state_dict() | tables, folder / f"rank{fabric.global_rank}.pt")


def main() -> None:
    folder, variant = sys.argv[1:]
    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp_spawn")
    fabric.launch(work, Path(folder), variant)


if __name__ == "__main__":
    main()
