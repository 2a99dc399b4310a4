"""What a person looks at: `report.html` of a run, and a page that compares several runs.

`page` puts the sections together, `curves` draws the log, `measures` explains the metrics. A new
section is a function of `Run` in `page.SECTIONS`; a metric without an explanation is shown by its
own name. `compare` puts runs side by side.
"""

from __future__ import annotations

from dcorr_models.report.compare import Comparison, compare_runs
from dcorr_models.report.page import build_report

__all__ = ["Comparison", "build_report", "compare_runs"]
