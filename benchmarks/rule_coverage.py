"""How often a scaling rule's 95 % interval holds the planted rule, over simulated searches.

    python benchmarks/rule_coverage.py [--simulations 50] [--losses log linear kinked weak]

For each kind: the share of (budget, axis) inside the interval where the rule answers, the median
width as a share of the axis' range, and the share of budgets answered. Nothing is timed: the
figures are the same on every machine, loaded or not.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

SIZES = (40, 90, 180)


def main() -> None:
    sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
    from planted import LAWS, LOSSES, SEARCHES, outcome, simulate

    parser = argparse.ArgumentParser()
    parser.add_argument("--simulations", type=int, default=50)
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=LOSSES)
    asked = parser.parse_args()
    print("| loss | rule | search | trials | inside | width | answered |")
    print("|---|---|---|---|---|---|---|")
    for loss in asked.losses:
        for law in LAWS:
            for search in SEARCHES:
                for n in SIZES:
                    seeds = range(asked.simulations)
                    seen = [outcome(simulate(law, search, n, s, loss), law) for s in seeds]
                    answered = np.array([o.answered for o in seen])
                    inside = np.array([o.inside for o in seen])[answered].mean()
                    width = np.median([o.width for o in seen])
                    print(
                        f"| {loss} | {law} | {search} | {n} | {inside:.3f} | {width:.3f} | "
                        f"{answered.mean():.2f} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
