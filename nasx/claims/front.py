"""What a search's front says beside a claim: how the space's axes follow the budget on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nasx.errors import NasxError
from nasx.results.rule import rule
from nasx.run import Run


def followed(run: str | Path) -> dict[str, Any]:
    """Return Spearman's correlation of every axis with c on the front of a run.

    Taken over the trials within one standard error of the front, with 95 % intervals. Raises
    NasxError where the front has too few points for any.
    """
    found = rule(Run(run))
    if not found.correlations:
        raise NasxError(
            f"{run}: its front has {len(found.points)} points, too few for a correlation; "
            "extend that search with --add-trials"
        )
    return {
        "run": str(run),
        "study": found.name,
        "score": found.score,
        "points": len(found.points),
        "macs": [found.points[0].macs, found.points[-1].macs],
        "correlations": found.correlations,
    }
