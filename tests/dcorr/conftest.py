from __future__ import annotations

import pytest


@pytest.fixture(params=["dense", "tiled"])
def method(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every backend by name. Blocks are made small, so that few samples already make several."""
    monkeypatch.setattr("dcorr.pairwise.tiled.ROWS", 16)
    name: str = request.param
    return name
