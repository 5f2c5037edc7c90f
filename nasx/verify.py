"""Hold a scaling rule to its word: train what it names, and the null beside it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasx.errors import NasxError
from nasx.files import demand_space, read_json, write_json
from nasx.results.evidence import evidence
from nasx.results.hits import Errors, front_score, seed_spread, verdict
from nasx.results.rule import Rule
from nasx.trial import Snapshot

if TYPE_CHECKING:
    from nasx.tasks.base import Task
    from nasx.training import Training

SAVE_EVERY = 20.0  # seconds of training between checkpoints
Note = Callable[[str], None]


def verify(
    rule: Rule,
    rows: Sequence[Mapping[str, Any]],
    snapshot: Snapshot,
    *,
    seeds: int = 1,
    task: Task | None = None,
    note: Note = lambda line: None,
) -> list[dict[str, Any]]:
    """Return the rows of `scale` with the scores of both networks on valid, and hit or miss.

    Each is trained afresh at the study's full fidelity, from the seed after the search's on, so
    that nothing is compared with a network of the search. Scores are kept in the run folder under
    verify/, and a training that was stopped goes on from its checkpoint there: the same command
    continues. Raises NasxError where a score has no known error and only one seed is asked.
    """
    from nasx import registry

    study = snapshot.study
    task = task or registry.task(study.task)
    known = evidence(snapshot, rule.setting)
    sign = 1.0 if study.objectives[rule.score] == "maximize" else -1.0
    if not known.trials.samples and not known.trials.spread and seeds < 2:
        raise NasxError(
            f"{rule.name}: no two trainings of one network say how far {rule.score} varies; "
            "repeat with --seeds 2 or more"
        )
    wanted = [
        network
        for row in rows
        for network in ({"key": row["key"], "candidate": row["candidate"]}, row["null"])
        if network
    ]
    scores: dict[str, list[float]] = {}
    for i, network in enumerate(wanted, 1):
        if network["key"] not in scores:
            note(f"verify: network {i} of {len(wanted)}, {seeds} seed{'s' * (seeds > 1)}")
            scores[network["key"]] = [
                _scored(rule, network, snapshot, study.search.seed + 1 + k, task)
                for k in range(seeds)
            ]
    errors = Errors(known.trials.samples, seed_spread(list(scores.values()), known))
    found = []
    for row in rows:
        null = scores[row["null"]["key"]] if row["null"] else None
        front = front_score(known, row["macs"], sign)
        said = verdict(scores[row["key"]], null, front, errors, sign)
        about = {"score": rule.score, "seeds": seeds, "seed_spread": errors.seeds}
        found.append({**row, "verified": {**about, **said}})
    return found


def _scored(
    rule: Rule, network: Mapping[str, Any], snapshot: Snapshot, seed: int, task: Task
) -> float:
    """Return a network's score on valid at one seed, trained now or before."""
    full = snapshot.study.fidelity.full
    folder = snapshot.path / "verify" / f"{network['key']}-s{seed}"
    file = folder / "result.json"
    known = read_json(file)
    if known and known.get("samples") == full and rule.score in known.get("scores", {}):
        return float(known["scores"][rule.score])
    folder.mkdir(parents=True, exist_ok=True)
    demand_space(folder)
    training = _training(rule, network["candidate"], snapshot, seed, task)
    _train(training, full, folder / "checkpoint")
    scores = training.score("valid")
    write_json(file, {**network, "seed": seed, "samples": full, "scores": scores})
    shutil.rmtree(folder / "checkpoint", ignore_errors=True)
    return float(scores[rule.score])


def _training(
    rule: Rule, candidate: Mapping[str, Any], snapshot: Snapshot, seed: int, task: Task
) -> Training:
    from nasx.assets import load_assets
    from nasx.training import Training

    study = snapshot.study
    made = rule.setting.space.from_json(candidate)
    device = "cuda" if study.resources.gpu > 0 else "cpu"
    needs, folder = made.needs(task.shape), snapshot.path / "assets"
    assets = load_assets(needs, study.assets, folder, task, seed=seed) if needs else {}
    return Training(made, task, full=study.fidelity.full, seed=seed, device=device, assets=assets)


def _train(training: Training, full: int, checkpoint: Path) -> None:
    if checkpoint.is_dir():
        training.load(checkpoint)
    saved = time.monotonic()
    for _ in training.run(full):
        if time.monotonic() - saved > SAVE_EVERY:
            training.save(checkpoint)
            saved = time.monotonic()
