"""What a person looks at: `report.html`, one file a run.

`page` puts the sections together, `curves` draws the log, `measures` explains the metrics. A new
section is a function of `Run` in `page.SECTIONS`; a metric without an explanation is shown by its
own name.
"""

from __future__ import annotations

from dcorr_models.report.page import build_report

__all__ = ["build_report"]
