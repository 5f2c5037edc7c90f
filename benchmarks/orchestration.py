"""Orchestration: what a trial costs beyond its own work, beside the usual Tune + Optuna recipe.

    python benchmarks/orchestration.py [noop] [usual] [sleep]

Simulated trials (tests/simulated.py) on Ray Tune at 2 slots with the SQLite record. `gross` divides
the whole call by its trials (ray.init apart); `steady` is the time between first and last result.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(HERE.parent / "tests"), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
)

from nasx.search.search import search  # noqa: E402
from nasx.study import Study  # noqa: E402
from simulated import Simulated  # noqa: E402

SLOTS = 2
REPEATS = 3


class Clock:
    """A display that notes when each result is told."""

    def __init__(self) -> None:
        self.told: list[float] = []

    def begin(self, study, run, resumed) -> None: ...
    def note(self, text) -> None: ...
    def end(self, outcome) -> None: ...

    def trial(self, trial, progress) -> None:
        self.told.append(time.perf_counter())


def study(trials: int, sampler: str) -> Study:
    return Study.model_validate(
        {
            "name": "noop",
            "desc": "What does a trial cost?",
            "space": f"{HERE.parent / 'tests' / 'simulated.py'}:Hill",
            "task": "simulated",
            "objectives": {"top1": "maximize", "macs": "minimize"},
            "fidelity": {"full": 900, "factor": 3, "rungs": 1},
            "search": {"trials": trials, "sampler": sampler},
        }
    )


def run(trials: int, seconds: float = 0.0, sampler: str = "random") -> dict[str, float]:
    """Run simulated trials on a Ray that is up already; return the times."""
    from nasx.search.cluster import start_ray

    start_ray(None, 1, 0, dashboard=False)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        evaluator = Simulated(seconds, imports=True)
        search(study(trials, sampler), Path(folder), evaluate=evaluator, display=clock)
        wall = time.perf_counter() - began
    steady = (clock.told[-1] - clock.told[0]) / (trials - 1)
    ideal = seconds * trials / SLOTS
    after = clock.told[-1] - clock.told[0] + seconds
    return {
        "trials": trials,
        "seconds": seconds,
        "sampler": sampler,
        "gross_ms": round(1e3 * wall / trials, 1),
        "steady_ms": round(1e3 * steady, 1),
        "first_s": round(clock.told[0] - began, 2),
        "gross_efficiency": round(ideal / wall, 3),
        "efficiency_after_start": round(ideal / after, 3),
    }


def usual(trials: int) -> dict[str, float]:
    """Run the usual recipe: a function trainable, OptunaSearch, torch imported."""
    from nasx.search.cluster import start_ray

    start_ray(None, 1, 0, dashboard=False)
    import optuna
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    def trial(config):
        import torch

        torch.set_num_threads(1)
        tune.report({"top1": config["depth"] * config["width"], "macs": config["width"]})

    space = {"depth": tune.randint(1, 9), "width": tune.uniform(0.25, 2.0)}
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        sampler = optuna.samplers.RandomSampler(seed=0)
        tune.Tuner(
            trial,
            param_space=space,
            tune_config=tune.TuneConfig(
                search_alg=OptunaSearch(
                    metric=["top1", "macs"], mode=["max", "min"], sampler=sampler
                ),
                num_samples=trials,
                max_concurrent_trials=SLOTS,
            ),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        ).fit()
        wall = time.perf_counter() - began
    return {"trials": trials, "recipe": "usual", "gross_ms": round(1e3 * wall / trials, 1)}


def main(asked: list[str]) -> None:
    asked = asked or ["noop", "usual", "sleep"]
    from nasx.search.cluster import leave_ray

    ours, theirs = [], []
    for _ in range(REPEATS):  # in turn, so that a slow moment meets both
        if "noop" in asked:
            ours.append(run(60))
            print(json.dumps(ours[-1]), flush=True)
            print(json.dumps(run(300)), flush=True)
        if "usual" in asked:
            theirs.append(usual(60))
            print(json.dumps(theirs[-1]), flush=True)
    if ours and theirs:
        ratios = [b["gross_ms"] / a["gross_ms"] for a, b in zip(ours, theirs, strict=True)]
        print(f"usual / ours at n = 60: {', '.join(f'{r:.1f}' for r in ratios)}", flush=True)
    if "sleep" in asked:
        for trials, seconds, sampler in ((16, 1, "random"), (40, 2, "auto"), (40, 5, "random")):
            print(json.dumps(run(trials, seconds, sampler)), flush=True)
    leave_ray()


if __name__ == "__main__":
    main(sys.argv[1:])
