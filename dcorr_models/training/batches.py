"""The batches of a stage: from a loader, or cut out of a data set that stays on the device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from copy import deepcopy
from typing import Any, Literal, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from dcorr_models.data.base import LabelledImages, collate_batch
from dcorr_models.data.redrawn import RedrawnImages
from dcorr_models.errors import UserError
from dcorr_models.training.sampler import AnewAtEveryStep

__all__ = ["Placement", "ResidentBatches", "batches", "stays_on_device"]

Batch = dict[str, Tensor]
Placement = Literal["auto", "always", "never"]
# Share of the device's free memory that a data set may take by itself.
SHARE = 0.25


def batches(
    dataset: Dataset[Any],
    sampler: Sampler[list[int]],
    fabric: Fabric,
    *,
    seed: int,
    start: int = 0,
    workers: int = 0,
    on_device: Placement = "auto",
) -> Iterable[Batch]:
    """The sampler's batches on Fabric's device; the same numbers whichever way they come.

    Args:
        dataset: its `__getitems__` makes whole batches, see `LabelledImages`.
        sampler: which samples, in which order.
        fabric: launched Fabric object.
        seed: of the loader's own generator, which seeds worker processes.
        start: step of the sampler's first batch; images that are drawn anew depend on the step.
        workers: loader processes, where the data set does not stay on the device.
        on_device: see `stays_on_device`.

    Returns:
        One dictionary of tensors a step.
    """
    if getattr(dataset, "redrawn", False):
        sampler = AnewAtEveryStep(sampler, len(cast(Sized, dataset)), start=start)
    if stays_on_device(dataset, fabric.device, on_device):
        return ResidentBatches(cast(LabelledImages, dataset), sampler, fabric.device)
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=collate_batch,
        num_workers=workers,
        # From pinned memory a batch travels while the GPU is still at work on the last one.
        pin_memory=fabric.device.type == "cuda",
        # Its own generator: torch's loader otherwise draws from the global state at every start.
        generator=torch.Generator().manual_seed(seed),
    )
    prepared = fabric.setup_dataloaders(loader, use_distributed_sampler=False)
    return cast(Iterable[Batch], prepared)


def stays_on_device(dataset: Dataset[Any], device: torch.device, wanted: Placement) -> bool:
    """Whether the bytes of all images are kept on the device.

    Args:
        dataset: only a `LabelledImages` that hands out its images as they are can stay there, or
            `RedrawnImages` of such a one.
        device: where the training runs.
        wanted: "always", "never", or "auto": on a CUDA device of which the images take at most a
            quarter of the free memory.

    Raises:
        UserError: "always" for a data set that draws its images at access time.
    """
    kept = dataset.split if isinstance(dataset, RedrawnImages) else dataset
    plain = (
        isinstance(kept, LabelledImages) and type(kept).__getitems__ is LabelledImages.__getitems__
    )
    if wanted == "always" and not plain:
        raise UserError(
            f"{type(dataset).__name__} makes its images when they are asked for, so they cannot be "
            "kept on the device: leave --loop.data_on_device at auto"
        )
    if wanted != "auto" or not plain:
        return wanted == "always"
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return cast(LabelledImages, kept).images.nbytes <= SHARE * free


class ResidentBatches:
    """Batches of images whose bytes lie on the device: nothing but indices travels.

    Bytes become floats by a table of the 256 values that the data set gives for them, so that the
    images are those of the loader, bit for bit, on every device. Images kept as floats stay so.
    Those that are drawn anew are drawn there.

    Args:
        dataset: images and labels, or `RedrawnImages` of such a data set.
        sampler: which samples, in which order.
        device: where images and labels go.

    Example:
        >>> from dcorr_models.training.sampler import StepBatchSampler
        >>> images = torch.full((3, 1, 1, 2), 255, dtype=torch.uint8)
        >>> data = LabelledImages(images, torch.tensor([4, 5, 6]), value_range=(-1.0, 1.0))
        >>> sampler = StepBatchSampler(3, batch_size=3, seed=0, start=0, stop=1)
        >>> (batch,) = ResidentBatches(data, sampler, torch.device("cpu"))
        >>> batch["image"].flatten().tolist(), sorted(batch["label"].tolist())
        ([1.0, 1.0, 1.0, 1.0, 1.0, 1.0], [4, 5, 6])
    """

    def __init__(
        self, dataset: LabelledImages, sampler: Sampler[list[int]], device: torch.device
    ) -> None:
        self.sampler, self.device = sampler, device
        self.redraw = None
        if isinstance(dataset, RedrawnImages):
            # a copy: metrics go on with the data set's own where it is
            self.redraw, dataset = deepcopy(dataset.redraw).to(device), dataset.split
        self.images = dataset.images.to(device)
        self.labels = dataset.labels.to(device)
        every_byte = torch.arange(256).to(torch.uint8).reshape(256, 1, 1, 1)
        table = LabelledImages(
            every_byte, torch.zeros(256, dtype=torch.int64), value_range=dataset.value_range
        )
        self.values = table.tensors()[0].flatten().to(device)

    def __len__(self) -> int:
        return len(cast(Sized, self.sampler))

    def __iter__(self) -> Iterator[Batch]:
        for indices in self.sampler:
            # Not blocking: a wait here would let the GPU run dry at every step.
            numbers = torch.tensor(indices).to(self.device, non_blocking=True)
            index = numbers if self.redraw is None else numbers % len(self.images)
            images = self.images[index]
            floats = images if images.is_floating_point() else self.values[images.int()]
            yield {
                "image": floats if self.redraw is None else self.redraw(floats, numbers),
                "label": self.labels[index],
                "index": index,
            }
