"""Every number measured for these pages stands behind a prompt, and is computed again here."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

PAGES = Path(__file__).parents[2] / "docs" / "losses"
NAMES = ["asymmetric_noise", "cross_covariance", "gaussian_mixture", "schedules"]


@pytest.mark.parametrize("name", NAMES)
def test_prompts_print_what_the_page_says(name: str) -> None:
    failed, attempted = doctest.testfile(
        str(PAGES / f"{name}.md"), module_relative=False, encoding="utf-8"
    )
    assert attempted > 0
    assert failed == 0
