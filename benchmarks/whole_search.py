"""The main job whole: `nasx search STUDY` as a user runs it, and what came of it.

    python benchmarks/whole_search.py [--study studies/tinynet.yaml] [--out FOLDER]

Prints wall and CPU time, the time to the first rung's score, and the front against its goals. With
an OUT that holds a finished run nothing is searched: the table is printed again, without times.
"""

from __future__ import annotations

import argparse
import math
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from nasx import Run, front, load
from nasx.trial import Snapshot, State

TRIAL = re.compile(r"^\[\d+/\d+\] t\d{4} ")


def searched(study: Path, out: Path) -> dict[str, float]:
    """Run the search; return its seconds: whole, to the first score, and CPU."""
    command = [str(Path(sys.executable).with_name("nasx")), "search", str(study), "--out", str(out)]
    began, first = time.time(), math.nan
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        for line in running.stderr:
            print(line, end="", file=sys.stderr)
            if math.isnan(first) and TRIAL.match(line):
                first = time.time() - began
    if running.returncode:
        sys.exit(running.returncode)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "whole search, wall s": time.time() - began,
        "first rung score after, s": first,
        "CPU s, workers left out": used.ru_utime + used.ru_stime,
    }


def outcome(snapshot: Snapshot, images: int) -> dict[str, float]:
    """Return the figures that the goals are stated in."""
    members = sorted(front(snapshot), key=lambda e: e["objectives"]["macs"])
    macs = [e["objectives"]["macs"] for e in members]
    tests = [e["test"]["top1"] for e in members]
    best, smallest = max(tests), tests[0]
    p, q = best / 100, smallest / 100
    error = 100 * math.sqrt((p * (1 - p) + q * (1 - q)) / images)
    full = [t for t in snapshot.trials if t.state is State.COMPLETE]
    seconds = [sum(r.seconds for r in t.rungs) for t in snapshot.trials]
    base = next(t for t in snapshot.trials if t.origin == "start:baseline")
    return {
        "distinct candidates": len({t.key for t in snapshot.trials if t.rungs}),
        "at full fidelity": len(full),
        "points on the front": len(members),
        "least MACs on it": macs[0],
        "span in MACs": macs[-1] / macs[0],
        "best test top-1": best,
        "smallest net's test top-1": smallest,
        "difference, points": best - smallest,
        "difference, standard errors": (best - smallest) / error,
        "mean trial, CPU s": statistics.mean(seconds),
        "base, full training, CPU s": sum(r.seconds for r in base.rungs)
        if base.state is State.COMPLETE
        else math.nan,
    }


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--study", type=Path, default=Path("studies/tinynet.yaml"))
    ask.add_argument("--out", type=Path)
    given = ask.parse_args()
    out = given.out or Path(tempfile.mkdtemp()) / load(given.study).name
    times = {} if (out / "front.json").exists() else searched(given.study, out)
    snapshot = Run(out).snapshot()
    images = snapshot.provenance["splits"]["test"]
    print(f"| what | measured |\n|---|---|\n| run | {snapshot.name}, {images} test images |")
    for name, value in (times | outcome(snapshot, images)).items():
        print(f"| {name} | {value:,.1f} |" if value % 1 else f"| {name} | {value:,.0f} |")


if __name__ == "__main__":
    main()
