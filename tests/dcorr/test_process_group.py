"""Several processes against one: values, gradients, training, and mistakes that all of them hear.

Each pool of processes starts once and runs every case of `process_cases.py`. Results are read from
files: gloo may abort at interpreter exit on a loaded machine.
"""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import dcorr
from dcorr import DCor2Loss, DCov2Loss, XCovLoss, dcov2, xcov
from dcorr._process_group import Team
from dcorr.pairwise import tiled
from dcorr.pairwise.centring import Side
from dcorr.pairwise.preparation import prepare
from tests.dcorr.oracle import draw
from tests.dcorr.process_cases import COMPARED, ONLY, STATISTICS, TRAININGS, Result, Seat
from tests.dcorr.process_mistakes import MISTAKES
from tests.dcorr.tolerances import tolerance

ROOT = Path(__file__).parents[2]
LIMIT = 240  # seconds for a pool on a loaded machine; a hang is found sooner, by gloo itself

distributed = pytest.mark.distributed
sizes = pytest.mark.parametrize("size", [2, 4])


def start(folder: Path, size: int) -> None:
    command = [sys.executable, "-m", "tests.dcorr.processes", str(folder)]
    logs = [(folder / f"rank{rank}.log").open("w") for rank in range(size)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [*command, str(rank), str(size)], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
        for rank, log in enumerate(logs)
    ]
    limit = time.monotonic() + LIMIT
    try:
        for process in processes:
            process.wait(max(0.0, limit - time.monotonic()))
    finally:
        for process, log in zip(processes, logs, strict=True):
            process.kill()
            process.wait()
            log.close()


def run_once(tmp_path_factory: pytest.TempPathFactory, size: int) -> Path:
    """Start a pool, or wait for the one that another worker of this test run has started."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        folder = tmp_path_factory.mktemp(f"processes{size}")
        start(folder, size)
        return folder
    folder = tmp_path_factory.getbasetemp().parent / f"processes{size}"
    try:
        folder.mkdir()
    except FileExistsError:
        limit = time.monotonic() + LIMIT
        while not (folder / "finished").exists() and time.monotonic() < limit:
            time.sleep(0.2)
        return folder
    try:
        start(folder, size)
    finally:
        (folder / "finished").touch()
    return folder


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], list[dict[str, Result]]]:
    """The results of all cases on so many processes, one dictionary a process."""

    @cache
    def results(size: int) -> list[dict[str, Result]]:
        folder = run_once(tmp_path_factory, size)
        paths = [folder / f"rank{rank}.pt" for rank in range(size)]
        logs = "\n".join((folder / f"rank{rank}.log").read_text()[-3000:] for rank in range(size))
        assert all(path.exists() for path in paths), logs
        return [torch.load(path, weights_only=False) for path in paths]

    return results


def alone(case: Callable[[Seat, int], Result], size: int) -> Result:
    return case(Seat(0, 1), size)


@distributed
@sizes
@pytest.mark.parametrize("name", STATISTICS)
def test_value_and_gradients_are_those_of_one_process(pool: Any, name: str, size: int) -> None:
    results, case = [ranks[name] for ranks in pool(size)], STATISTICS[name]
    expected = alone(case, size)
    for result in results:
        assert result["value"].dtype == expected["value"].dtype
        assert_close(result["value"], expected["value"], **tolerance(case.dtype, "value"))
        # Decisions are made on it: not only close to each other, but the same number.
        assert torch.equal(result["value"], results[0]["value"])
    for k, whole in enumerate(expected["grads"]):
        parts = [result["grads"][k] for result in results]
        if whole is None:
            assert all(part is None for part in parts)
        else:
            allowed = tolerance(case.dtype, "gradient")
            # An entry may be what is left of large ones.
            allowed["atol"] *= max(1.0, whole.abs().max().item())
            assert_close(torch.cat(parts), whole, **allowed)


@distributed
@sizes
@pytest.mark.parametrize("name", TRAININGS)
def test_ten_ddp_steps_are_those_of_one_process(pool: Any, name: str, size: int) -> None:
    expected = alone(TRAININGS[name], size)
    for ranks in pool(size):
        for parameter, value in expected.items():
            assert_close(ranks[name][parameter], value, rtol=1e-6, atol=1e-6)
            if value.dtype == torch.float64:
                assert_close(ranks[name][parameter], value, rtol=1e-10, atol=1e-12)


@distributed
@pytest.mark.parametrize(
    ("name", "size"),
    [(name, size) for name in COMPARED for size in (2, 4) if ONLY.get(name, size) == size],
)
def test_the_rest_is_that_of_one_process(pool: Any, name: str, size: int) -> None:
    expected = alone(COMPARED[name], size)
    for key, whole in expected.items():
        parts = [ranks[name][key] for ranks in pool(size)]
        if whole.shape == parts[0].shape:
            assert all(torch.equal(part, parts[0]) for part in parts)
            assert_close(parts[0], whole)
        else:
            assert_close(torch.cat(parts), whole)


@distributed
@sizes
@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_heard_by_all(pool: Any, name: str, size: int) -> None:
    mistake = MISTAKES[name]
    for ranks in pool(size):
        assert ranks[name]["error"] == mistake.error
        assert mistake.text in ranks[name]["text"]


@distributed
@sizes
def test_who_made_the_mistake_is_named(pool: Any, size: int) -> None:
    first, second, *_ = (ranks["x and y differ on one"]["text"] for ranks in pool(size))
    assert first.startswith("process 1 of group has refused its arguments: ValueError: x and y")
    assert second.startswith("x and y need")
    others = "processes 0, 2, 3" if size == 4 else "process 0"
    text = pool(size)[0]["exponent"]["text"]
    assert text.endswith(f"got 1.0 on {others}; 0.5 on process 1")


@distributed
def test_smaller_groups(pool: Any) -> None:
    results = [ranks["groups"] for ranks in pool(4)]
    draws = [(draw(20, 3, seed=rank), draw(20, 2, seed=9 + rank)) for rank in range(4)]

    def together(*ranks: int) -> Tensor:
        return dcov2(*(torch.cat([draws[rank][k] for rank in ranks]) for k in (0, 1)))

    outside = "group must contain this process, got a group of other processes"
    for rank, result in enumerate(results):
        assert_close(result["none"], together(rank))
        assert_close(result["world"], together(0, 1, 2, 3))
        for name, members in (("pair", (1, 3)), ("single", (2,))):
            if rank in members:
                assert_close(result[name], together(*members))
            else:
                assert result[name] == outside
        assert result["copy shares"]
        assert result["repr"].endswith("group=<ProcessGroup>)")
        assert "pickle" in result["pickle"]


@distributed
@sizes
def test_messages_are_few(pool: Any, size: int) -> None:
    for ranks in pool(size):
        # What each has; the samples; the shift; the sums.
        forward = ["all_gather", "all_gather", "broadcast", "all_reduce"]
        assert ranks["messages"]["forward"] == forward
        # The gradients of the losses; those of the samples.
        assert ranks["messages"]["backward"] == ["all_reduce", "all_reduce"]


# -- in one process -------------------------------------------------------------------------------


class Dealer:
    """A team without processes."""

    block = Team.block

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("n", [2, 33, 100, 700])
def test_every_pair_is_dealt_to_one_process(n: int, size: int) -> None:
    points, _ = prepare([draw(1, n, 2)], None)
    sides = [Side(points[0], 1.0)]
    times = torch.zeros(n, n)
    dealt = []
    for rank in range(size):
        blocks = list(tiled._blocks(sides, Dealer(rank, size)))
        dealt.append(len(blocks))
        for block in blocks:
            times[block.rows, block.columns] += 1
            if block.rows != block.columns:
                times[block.columns, block.rows] += 1
    assert (times == 1).all()
    assert max(dealt) - min(dealt) <= 1


def test_the_unit_does_not_depend_on_the_order_of_sums() -> None:
    # The largest deviation from the mean is a power of two but for the rounding of the mean, which
    # depends on the order: a unit taken from it would be that power or half of it.
    x = draw(1, 1000, 1, dtype=torch.float32) + 5
    x = x / (x - x.mean()).abs().max() * 2.0**-20  # so small that it needs a unit
    units = set()
    for seed in range(20):
        order = torch.randperm(999, generator=torch.Generator().manual_seed(seed)) + 1
        points, _ = prepare([torch.cat([x[:, :1], x[:, order]], 1)], None)
        assert points[0].scale is not None
        units.add(points[0].scale.item())
    assert len(units) == 1


NEEDED = "needs a process group: call torch.distributed.init_process_group first"


@pytest.mark.parametrize("function", [dcov2, xcov, DCov2Loss(group="world"), XCovLoss()])
def test_world_without_processes_is_an_error(function: Any) -> None:
    options = {} if isinstance(function, torch.nn.Module) else {"group": "world"}
    if isinstance(function, XCovLoss):
        function = XCovLoss(group="world")
    with pytest.raises(ValueError, match=NEEDED):
        function(draw(5, 2), draw(5, 2), **options)


@pytest.mark.parametrize("make", [DCov2Loss, DCor2Loss, XCovLoss])
def test_wrong_groups_are_refused_when_the_module_is_made(make: Any) -> None:
    with pytest.raises(ValueError, match="group must be 'world', a ProcessGroup or None, got 'w'"):
        make(group="w")
    with pytest.raises(TypeError, match="group must be 'world', a ProcessGroup or None, got int"):
        make(group=1)


@pytest.mark.parametrize("function", [dcov2, xcov])
def test_wrong_groups_are_refused(function: Any) -> None:
    with pytest.raises(ValueError, match="group must be 'world', a ProcessGroup or None, got 'w'"):
        function(draw(5, 2), draw(5, 2), group="w")
    with pytest.raises(TypeError, match="group must be 'world', a ProcessGroup or None, got int"):
        function(draw(5, 2), draw(5, 2), group=1)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"metric": "precomputed"}, "group must be None with metric='precomputed'"),
        ({"method": "fused"}, "method must be one of"),
        ({"method": "sliced"}, "method must be one of"),
    ],
)
def test_settings_that_do_not_go_with_a_group(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        DCov2Loss(**options, group="world")


def test_modules_with_a_group_are_copied_and_pickled() -> None:
    module = DCov2Loss(unbiased=True, group="world")
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert twin is not module
        assert (twin.group, twin.unbiased) == ("world", True)
    assert repr(module).endswith("group='world')")
    assert "group" not in repr(DCov2Loss())


def test_a_subclass_is_copied_with_its_own_state() -> None:
    class Weighted(XCovLoss):
        def __init__(self) -> None:
            super().__init__(group="world")
            self.weight = torch.nn.Parameter(torch.ones(2))

    module = Weighted()
    twin = copy.deepcopy(module)
    assert twin.weight is not module.weight
    assert torch.equal(twin.weight, module.weight)
    assert list(twin.state_dict()) == ["weight"]


def test_every_statistic_takes_a_group() -> None:
    names = ("dcov2", "dcov", "dvar2", "dcor2", "dcor", "pdcov2", "pdcor", "xcov")
    for name in names:
        count = {"dvar2": 1, "pdcov2": 3, "pdcor": 3}.get(name, 2)
        with pytest.raises(ValueError, match=NEEDED):
            getattr(dcorr, name)(*[draw(5, 2)] * count, group="world")
