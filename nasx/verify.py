"""Hold a scaling rule to its word: train what it names, and the null beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nasx.results.rule import Rule
from nasx.study import Study


def verify(rule: Rule, rows: Sequence[Mapping[str, Any]], study: Study) -> list[dict[str, Any]]:
    """Return the rows of `scale` with the scores of both networks on valid.

    Each is trained afresh at the study's full fidelity and its search seed, so that nothing is
    compared with a network of the search. `gain` is the first score less the null's.
    """
    from nasx import registry
    from nasx.training import Training

    task = registry.task(study.task)
    score = task.metrics[0]
    device = "cuda" if study.resources.gpu > 0 else "cpu"
    full = study.fidelity.full

    def scored(candidate: Mapping[str, Any]) -> float:
        made = rule.setting.space.from_json(candidate)
        training = Training(made, task, full=full, seed=study.search.seed, device=device)
        for _ in training.run(full):
            pass
        return training.score("valid")[score]

    found = []
    for row in rows:
        ours = scored(row["candidate"])
        null = scored(row["null"]["candidate"]) if row["null"] else None
        gain = None if null is None else ours - null
        verified = {"score": score, "rule": ours, "null": null, "gain": gain}
        found.append({**row, "verified": verified})
    return found
