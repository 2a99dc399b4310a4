"""A stage owns *what* is trained: its networks, its optimizers, and one step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from dcorr_models.training.execution import Execution

__all__ = ["Stage", "floating_dtype", "frozen", "weighted_sum"]

Batch = dict[str, Tensor]


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Switches off the gradients of the modules' parameters; their flags always come back.

    Gradients still flow *through* a frozen module to its input.

    Example:
        >>> net = nn.Linear(2, 1)
        >>> with frozen(net):
        ...     any(p.requires_grad for p in net.parameters())
        False
        >>> all(p.requires_grad for p in net.parameters())
        True
    """
    flags = [(p, p.requires_grad) for module in modules for p in module.parameters()]
    for parameter, _ in flags:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


def weighted_sum(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Sum of `weights[name] * term`; a name without a weight is an error of the caller.

    Example:
        >>> weighted_sum({"a": torch.tensor(1.0), "b": torch.tensor(2.0)}, {"a": 1.0, "b": 0.5})
        tensor(2.)
    """
    missing = sorted(set(terms) - set(weights))
    if missing:
        raise ValueError(f"weights must name every term, {', '.join(missing)} missing")
    return torch.stack([weights[name] * term for name, term in terms.items()]).sum()


class Stage:
    """One phase of training. Subclasses say what a step does; `fit` says when it happens.

    Args:
        name: names the checkpoint and the rows of the log; letters, digits, `-` and `_`.
        networks: the networks that learn here, each a player with its own optimizer or sharing
            one. Each is wrapped on its own (`fabric.setup_module`), so that methods with several
            players need no search for unused parameters under DDP. A module of buffers alone, for
            statistics that a stage gathers, is one too: its step fills it, over all processes.
        optimizers: by name, normally the name of the network they belong to.
        max_steps: length of the stage in updates.
        batch_size: samples of a step, over all processes.
        fixed: networks that are used but do not learn: kept in eval mode, gradients off.
        schedulers: learning-rate schedules, stepped once after every step.
        images_per_class: a batch holds groups of so many images of one class, which follow each
            other in it; each process has whole groups. None: images in any order.
        unlabelled_batch_size: so many images without a label (label -1) follow the `batch_size`
            labelled ones in every batch, over all processes; `side_by_side` parts them. None: a
            batch holds labelled images alone.

    In `step` use `self.networks[...]`, `self.run_fixed(...)`, `self.step_index` (0 in the first
    step, for schedules) and `self.update(name, loss)`. What a step returns is made without looking
    at a value: `loss.detach()`, `self.scalar(weight)`.

    `execution`, set before `setup`, says how the networks are run: memory format, compiled or not.
    """

    execution: Execution = Execution()
    reads_labels: bool = True
    """False: batches are of all images, labelled or not; set by a subclass."""
    smallest_share: int = 2
    """Images of a step that each process needs; 1 where nothing is a statistic of a batch."""
    image_transform: Callable[[Tensor], Tensor] | None = None
    """What a batch's images pass before the step sees them, such as a reduction; set on the
    object."""

    def __init__(
        self,
        name: str,
        *,
        networks: Mapping[str, nn.Module],
        optimizers: Mapping[str, Optimizer],
        max_steps: int,
        batch_size: int,
        fixed: Mapping[str, nn.Module] | None = None,
        schedulers: Mapping[str, LRScheduler] | None = None,
        images_per_class: int | None = None,
        unlabelled_batch_size: int | None = None,
    ) -> None:
        if max_steps < 0:
            raise ValueError(f"max_steps must be 0 or more, got {max_steps}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be 1 or more, got {batch_size}")
        if images_per_class is not None and (images_per_class < 1 or batch_size % images_per_class):
            raise ValueError(
                "images_per_class must be 1 or more and divide the batch_size "
                f"({batch_size}), got {images_per_class}"
            )
        if unlabelled_batch_size is not None and unlabelled_batch_size < 1:
            raise ValueError(
                f"unlabelled_batch_size must be 1 or more, or None, got {unlabelled_batch_size}"
            )
        self.name = name
        self.networks: dict[str, Any] = dict(networks)
        self.optimizers: dict[str, Any] = dict(optimizers)
        self.fixed: dict[str, nn.Module] = dict(fixed or {})
        self.schedulers: dict[str, LRScheduler] = dict(schedulers or {})
        self.max_steps = max_steps
        self.batch_size = batch_size
        self.images_per_class = images_per_class
        self.unlabelled_batch_size = unlabelled_batch_size
        self.step_index = 0
        self.fabric: Fabric | None = None
        self._flags: list[tuple[nn.Parameter, bool]] = []

    def setup(self, fabric: Fabric) -> None:
        """Hands networks and optimizers to Fabric; called once, by `fit`."""
        self.fabric = fabric
        for network in self.fixed.values():
            fabric.to_device(network)
            self._flags += [(p, p.requires_grad) for p in network.parameters()]
            network.eval().requires_grad_(False)
        self.fixed = {k: self.execution.prepare(m) for k, m in self.fixed.items()}
        # Fabric takes the compiled form off, wraps the network for several processes, and compiles
        # the whole; names of parameters stay those of the network itself.
        self.networks = {
            k: _hand_over(fabric, self.execution.prepare(m)) for k, m in self.networks.items()
        }
        self.optimizers = {k: fabric.setup_optimizers(o) for k, o in self.optimizers.items()}
        self.train_mode()

    def teardown(self) -> None:
        """Gives the fixed networks' parameters their gradient flags back."""
        for parameter, flag in self._flags:
            parameter.requires_grad_(flag)
        self._flags = []

    def train_mode(self) -> None:
        """Learning networks in train mode, fixed ones in eval mode."""
        for network in self.networks.values():
            network.train()
        for network in self.fixed.values():
            network.eval()

    def place(self, batch: Batch) -> Batch:
        """The batch as the networks read it: in their memory format, images in their precision."""
        networks = (*self.networks.values(), *self.fixed.values())
        dtype = next(filter(None, map(floating_dtype, networks)), batch["image"].dtype)
        images = batch["image"].to(dtype)
        if self.image_transform is not None:
            images = self.image_transform(images)
        return self.execution.place({**batch, "image": images})

    def side_by_side(self, batch: Batch) -> tuple[Batch, Batch]:
        """The labelled and the unlabelled part of this process's batch, without looking at labels.

        With several processes each has its share of both.
        """
        assert self.fabric is not None, "setup() comes before side_by_side()"
        labelled = self.batch_size // self.fabric.world_size
        first = {key: rows[:labelled] for key, rows in batch.items()}
        return first, {key: rows[labelled:] for key, rows in batch.items()}

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One update of every player. Returns detached scalars under stable names."""
        raise NotImplementedError

    def run_fixed(self, name: str, *inputs: Tensor) -> Tensor:
        """Output of a fixed network: in the run's precision, as float32, without gradients."""
        assert self.fabric is not None, "setup() comes before run_fixed()"
        network = self.fixed[name]
        dtype = floating_dtype(network)
        if dtype is not None:
            inputs = tuple(tensor.to(dtype) for tensor in inputs)
        with torch.no_grad(), self.fabric.autocast():
            output: Tensor = network(*inputs)
        # Fabric gives what the learning networks return this type: float32, unless it was set.
        return output.to(torch.get_default_dtype())

    def scalar(self, value: float) -> Tensor:
        """A number for the log, on the stage's device.

        `torch.tensor(value, device=...)` would make the host wait for all that a GPU has to do.
        """
        assert self.fabric is not None, "setup() comes before scalar()"
        return torch.full((), float(value), device=self.fabric.device)

    def update(self, name: str, loss: Tensor, **backward: Any) -> None:
        """Backward and optimizer step of one player: the only place that does either.

        Keyword arguments go to `backward`: `gradient=` for a tensor that is not a scalar,
        `inputs=` to keep the gradient out of other players' parameters, `retain_graph=`.
        Parameters whose gradient is switched off stay as they are, also when that is all of them.
        """
        assert self.fabric is not None, "setup() comes before update()"
        optimizer = self.optimizers[name]
        learning = [p for group in optimizer.param_groups for p in group["params"]]
        if "inputs" in backward:
            learning = backward["inputs"] = [t for t in backward["inputs"] if t.requires_grad]
        if not any(tensor.requires_grad for tensor in learning):
            return
        optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(loss, **backward)
        optimizer.step()

    def gradient(self, loss: Tensor, leaf: Tensor, **backward: Any) -> Tensor:
        """The gradient of a loss in one leaf tensor alone: no parameter's gradient is touched.

        Through Fabric, as `update`: mixed precision refuses a bare `torch.autograd.grad`. Keyword
        arguments go to `backward`.
        """
        assert self.fabric is not None, "setup() comes before gradient()"
        leaf.grad = None
        self.fabric.backward(loss, inputs=[leaf], **backward)
        result, leaf.grad = leaf.grad, None
        # A loss that does not depend on the leaf leaves nothing behind.
        return torch.zeros_like(leaf) if result is None else result

    def mean_over_ranks(self, value: Tensor) -> Tensor:
        """The mean of a detached value over all processes: what gates and stops decide on."""
        assert self.fabric is not None, "setup() comes before mean_over_ranks()"
        reduced = self.fabric.all_reduce(value.detach(), reduce_op="mean")
        assert isinstance(reduced, Tensor)
        return reduced

    def sum_over_ranks(self, value: Tensor) -> Tensor:
        """The sum of a detached value over all processes."""
        assert self.fabric is not None, "setup() comes before sum_over_ranks()"
        reduced = self.fabric.all_reduce(value.detach(), reduce_op="sum")
        assert isinstance(reduced, Tensor)
        return reduced

    def rows_of_all(self, rows: Tensor) -> Tensor:
        """The rows of all processes, (N, ...), for a loss that is a statistic of the global batch.

        Every process computes the same loss of them. Its gradient reaches the process's own rows
        alone, times the number of processes: the mean that is taken over the processes then is the
        gradient of a single process. Each process has equally many rows.
        """
        assert self.fabric is not None, "setup() comes before rows_of_all()"
        if self.fabric.world_size == 1:
            return rows
        parts = list(cast(Tensor, self.fabric.all_gather(rows.detach())).unbind())
        own = rows.detach()
        parts[self.fabric.global_rank] = own + self.fabric.world_size * (rows - own)
        return torch.cat(parts)


def floating_dtype(network: nn.Module) -> torch.dtype | None:
    """The type of a network's first floating-point parameter; None where it has none.

    Example:
        >>> floating_dtype(nn.Linear(2, 1).double()), floating_dtype(nn.Flatten())
        (torch.float64, None)
    """
    return next((p.dtype for p in network.parameters() if p.is_floating_point()), None)


def _hand_over(fabric: Fabric, network: nn.Module) -> nn.Module:
    # DDP refuses a module without parameters: there is no gradient to average.
    if any(parameter.requires_grad for parameter in network.parameters()):
        return fabric.setup_module(network)
    fabric.to_device(network)
    return network
