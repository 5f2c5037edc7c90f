"""What a search's front says beside a claim: how the space's axes follow the budget on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nasx.errors import NasxError
from nasx.results.rule import rule
from nasx.run import Run, snapshot_of
from nasx.trial import Snapshot


def followed(run: Run | Snapshot | Path | str) -> dict[str, Any]:
    """Return Spearman's correlation of every axis with c on the front of a run.

    Taken over the trials within one standard error of the front, with 95 % intervals. Raises
    NasxError where the front has too few points for any.
    """
    snapshot = snapshot_of(run)
    found = rule(snapshot)
    if not found.correlations:
        raise NasxError(
            f"{snapshot.path}: its front has {len(found.points)} points, too few for a "
            "correlation; extend that search with --add-trials"
        )
    return {
        "run": str(snapshot.path),
        "study": found.name,
        "score": found.score,
        "points": len(found.points),
        "macs": [found.points[0].macs, found.points[-1].macs],
        "correlations": found.correlations,
    }
