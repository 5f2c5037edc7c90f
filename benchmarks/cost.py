"""How exact and how fast is the count? Beside thop, torch's FlopCounterMode and fvcore.

    python benchmarks/cost.py [--rounds 60] [--times-only]

First every network of tests/hand_counted.py and tests/met_in_practice.py: its MACs worked by hand,
and each counter's ratio to them (FLOPs of torch's are halved). Then CPU time on mob16x2 at batch 1,
one thread: every round visits all counters in random order, a visit is one warm run and one timed.
Goals: all ratios of nasx 1.0000; at most 1/8 of thop's time.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import platform
import random
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from hand_counted import ANCHORS, Case, mob16x2
from met_in_practice import CASES
from nasx.cost.check import Tally, cross_check
from nasx.cost.ops import count

GOAL = 8  # times faster than thop
X = torch.zeros(1, 3, 32, 32)


def exactness(cases: dict[str, Case]) -> tuple[int, int]:
    """Print a row per case; return how many nasx counts exactly, of how many."""
    names = [tally.counter for tally in cross_check(nn.Linear(1, 1), (torch.zeros(1, 1),))]
    print(f"| network | MACs by hand | {' | '.join(names)} |")
    print("|---|---" + "|---" * len(names) + "|")
    exact = 0
    for name, case in cases.items():
        tallies = cross_check(case.make(), case.inputs())
        exact += tallies[0].macs == case.macs
        cells = " | ".join(ratio(tally, case.macs) for tally in tallies)
        print(f"| {name} | {case.macs:,} | {cells} |", flush=True)
    return exact, len(cases)


def ratio(tally: Tally, by_hand: int) -> str:
    return "fails" if tally.macs is None else f"{tally.macs / by_hand:.4f}"


def by_thop(model: nn.Module) -> None:
    import thop

    thop.profile(model, (X,), verbose=False)


def by_torch(model: nn.Module) -> None:
    with FlopCounterMode(display=False), torch.no_grad():
        model(X)


def by_fvcore(model: nn.Module) -> None:
    from fvcore.nn import FlopCountAnalysis

    found = FlopCountAnalysis(model, X)
    found.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total()


def speed(rounds: int) -> dict[str, list[float]]:
    """Return CPU milliseconds of each counter in every round."""
    counters: dict[str, Callable[[nn.Module], object]] = {
        "nasx": lambda model: count(model, X),
        "thop": by_thop,
        "thop on a copy": lambda model: by_thop(copy.deepcopy(model)),
        "FlopCounterMode": by_torch,
    }
    if importlib.util.find_spec("fvcore"):
        counters["fvcore"] = by_fvcore
    # Each has a network of its own: thop leaves buffers behind.
    models = {name: mob16x2().eval() for name in counters}
    order, shuffled = list(counters), random.Random(0)
    times: dict[str, list[float]] = {name: [] for name in counters}
    for turn in range(rounds + 1):
        shuffled.shuffle(order)
        for name in order:
            counters[name](models[name])  # warms what the one before has cooled
            began = time.process_time()
            counters[name](models[name])
            if turn:  # the first round imports
                times[name].append(1e3 * (time.process_time() - began))
    return times


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((n.partition(":")[2].strip() for n in lines if n.startswith("model name")), "?")


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--rounds", type=int, default=60)
    ask.add_argument("--times-only", action="store_true")
    given = ask.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(f"machine: {processor()}, torch {torch.__version__}, 1 thread\n")
    if not given.times_only:
        exact, cases = exactness({**ANCHORS, **CASES})
        print(f"\nnasx is exact on {exact} of {cases} networks; goal: all\n")
    times = speed(given.rounds)
    print(f"CPU ms to count mob16x2 at batch 1, {given.rounds} rounds, all counters in each\n")
    print("| counter | median | least | median ratio to nasx |")
    print("|---|---|---|---|")
    for name, found in times.items():
        paired = statistics.median(t / n for t, n in zip(found, times["nasx"], strict=True))
        print(
            f"| {name} | {statistics.median(found):.2f} | {min(found):.2f} | {paired:.1f} |",
        )
    faster = statistics.median(t / n for t, n in zip(times["thop"], times["nasx"], strict=True))
    print(f"\n{faster:.1f} x faster than thop ({faster / GOAL:.1f} x the goal of {GOAL})")
    # SEEN: a candidate that the search has already priced costs a look-up. Time it here through
    # the search's own route once cards are kept by key.


if __name__ == "__main__":
    main()
