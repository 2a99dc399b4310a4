"""`python -m dcorr_models`."""

from __future__ import annotations

import sys

from dcorr_models.cli import main

if __name__ == "__main__":
    sys.exit(main())
