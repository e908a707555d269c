"""Time of a plan over that of importing torch and torchvision.

    python tools/bench/plan.py [--pairs 5]

Both are whole processes and take turns; the median of the ratios is printed. Exit code 1 above 1.5.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

MAX_RATIO = 1.5
PLAN = [sys.executable, "-m", "ssltyped.run", "recipes.simclr_8node", "--plan"]
IMPORT = [sys.executable, "-c", "import torch, torchvision"]


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    for command in (PLAN, IMPORT):  # from here on the files are in memory for both
        seconds(command)
    ratios = []
    for _ in range(options.pairs):
        ours, imports = seconds(PLAN), seconds(IMPORT)
        ratios.append(ours / imports)
        print(f"plan {ours:5.2f} s   import torch, torchvision {imports:5.2f} s   ratio {ratios[-1]:.2f}", flush=True)
    ratio = statistics.median(ratios)
    print(f"median ratio {ratio:.2f} (needs <= {MAX_RATIO})")
    return 0 if ratio <= MAX_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
