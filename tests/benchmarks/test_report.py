"""The page of the benchmarks says what the rows say."""

from __future__ import annotations

from pathlib import Path

import pytest
import report
from measure import write_rows

PAGE = report.PAGE.read_text(encoding="utf-8")


def test_the_page_is_what_the_rows_give() -> None:
    assert report.render(PAGE) == PAGE, "run: python benchmarks/report.py"


def test_every_table_of_the_page_is_known() -> None:
    names = [match[2] for match in report.BLOCK.finditer(PAGE)]
    assert PAGE.count("<!-- table:") == PAGE.count("<!-- end -->") == len(names)
    assert {name.split()[0] for name in names} == set(report.TABLES)


def rows(**times: float) -> list[dict[str, object]]:
    sizes = {"n": 100, "p": 10, "q": 10, "dtype": "float32"}
    machine = {"device": "cpu: some", "threads": 2, "torch": "2", "python": "3", "commit": "abc"}
    return [
        {
            **{"section": "targets", "case": "training", "rival": rival, "status": "timed"},
            **sizes,
            **{f"both_{end}ms": ms for end in ("", "low_", "high_")},
            **{"library": "", "peak_mb": 1.5, "value_error": 1e-7, "gradient_error": ""},
            **machine,
        }
        for rival, ms in times.items()
    ]


@pytest.mark.parametrize(
    ("cdist", "said"),
    [(3.3, "| 1.65 × | met |"), (0.8, "| 0.4 × | **not met**: 25% of it |")],
)
def test_targets_are_judged_by_the_rows(tmp_path: Path, cdist: float, said: str) -> None:
    write_rows(tmp_path / "distance_covariance_cpu.csv", rows(dcorr=2.0, cdist=cdist))
    made = report.targets(tmp_path, "cpu").splitlines()
    assert made[2].startswith("| n = 100, dimensions (10, 10), float32 | value and gradient")
    assert made[2].endswith(f"| ≥ 1.6 × {said}")
    assert made[3].endswith("| unmeasured |  |")


def test_a_table_changes_with_its_rows(tmp_path: Path) -> None:
    page = "words\n<!-- table: times cpu targets -->\n<!-- end -->\nmore words"
    assert report.UNMEASURED["cpu"] in report.render(page, tmp_path)
    write_rows(tmp_path / "distance_covariance_cpu.csv", rows(dcorr=2.0))
    made = report.render(page, tmp_path)
    assert "| dcorr |  |  | 2 (2–2) | 1.5 | 1e-07 |" in made
    assert report.render(made, tmp_path) == made
    write_rows(tmp_path / "distance_covariance_cpu.csv", rows(dcorr=3.0))
    assert report.render(made, tmp_path) != made


def test_rows_without_times_say_why(tmp_path: Path) -> None:
    untimed = {"status": "left out: a | b", "both_ms": "", "peak_mb": ""}
    write_rows(tmp_path / "distance_covariance_cpu.csv", [{**rows(cdist=1.0)[0], **untimed}])
    assert "| cdist | left out: a \\| b |" in report.times(tmp_path, "cpu targets")


def test_crossing_is_where_tiled_stays_faster() -> None:
    assert report.crossing({64: 2.0, 128: 0.9, 256: 1.1, 512: 0.8, 1024: None}) == "512"
    assert report.crossing({64: 0.9, 128: 1.2}) == "nowhere here"
