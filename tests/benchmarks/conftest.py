from __future__ import annotations

import sys
from pathlib import Path

# The scripts import each other by name, as they do when one of them is run.
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
