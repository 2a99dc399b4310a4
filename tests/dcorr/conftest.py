from __future__ import annotations

import pytest

from tests.dcorr.methods import METHODS, fits, small_blocks


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every backend by name. Blocks are made small, so that few samples already make several."""
    small_blocks(monkeypatch)
    name: str = request.param
    return name


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "many_features: no case for methods that take one feature")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out parameters that a method does not take: they make no case of a test of it."""
    items[:] = [item for item in items if _is_case(item)]


def _is_case(item: pytest.Item) -> bool:
    call = getattr(item, "callspec", None)
    several = item.get_closest_marker("many_features") is not None
    return call is None or fits(call.params, several)
