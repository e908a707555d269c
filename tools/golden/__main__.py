"""The golden runner's command line; `tools/golden/runner.py` says what it does."""

from __future__ import annotations

import os
import sys

from tools.golden.runner import main

if __name__ == "__main__":
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    sys.exit(main())
