"""Whether a score at an early rung tells the score at full training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from dashboards import _look as look
from dashboards._points import points, primary
from nasx.quantity import amount, brief
from nasx.study import Study
from nasx.trial import Snapshot, State

TITLE = "Do early scores predict full ones?"
ORDER = 70
WHY = "Score at each early rung against the final score of the trials that went all the way."
FEWEST = 5  # pairs below which a rank correlation says nothing


@dataclass(frozen=True)
class Rung:
    """The trials scored at one early rung and at full training."""

    samples: int
    names: list[str]
    early: list[float]
    full: list[float]
    tau: float | None  # Kendall's tau-b; None with too few pairs


def figure(record: Snapshot, study: Study) -> go.Figure:
    """Return early against full scores as a figure."""
    return draw(collect(record, study), primary(study))


def collect(record: Snapshot, study: Study) -> list[Rung]:
    """Return one entry for each early rung with pairs of scores."""
    axis = primary(study)
    rungs = []
    for rung, samples in enumerate(study.fidelity.budgets()[:-1]):
        names, early, full = [], [], []
        for point in points(record, study):
            trial = point.trial
            # Whole batches: a rung at 1,500 samples is scored after 1,504.
            at = [r for r in trial.rungs if r.rung == rung and axis in r.values]
            if trial.state is State.COMPLETE and at and axis in trial.values:
                names.append(trial.name)
                early.append(at[0].values[axis])
                full.append(trial.values[axis])
        if names:
            tau = kendall(early, full) if len(names) >= FEWEST else None
            rungs.append(Rung(samples, names, early, full, tau))
    return rungs


def kendall(a: list[float], b: list[float]) -> float | None:
    """Return Kendall's tau-b of two equally long lists (Kendall 1945), None if one is constant."""
    upper = np.triu_indices(len(a), 1)
    first = np.sign(np.subtract.outer(a, a))[upper]
    second = np.sign(np.subtract.outer(b, b))[upper]
    norm = float(np.sqrt(np.count_nonzero(first) * np.count_nonzero(second)))
    return float(np.sum(first * second)) / norm if norm else None


def draw(rungs: list[Rung], axis: str) -> go.Figure:
    """Draw the pairs of every rung; the legend carries the rank correlation."""
    if not rungs:
        return look.empty("No trial has both an early score and one at full training.")
    figure = look.canvas()
    for i, rung in enumerate(rungs):
        says = f"rank correlation {rung.tau:.2f}" if rung.tau is not None else "too few to tell"
        figure.add_scatter(
            x=rung.early,
            y=rung.full,
            mode="markers",
            marker={
                "size": 8, "color": look.COLOURS[(5, 0, 2, 3)[i % 4]], "opacity": 0.8,
                "symbol": look.SYMBOLS[i % len(look.SYMBOLS)],
            },
            name=f"{brief(rung.samples)} samples: {says}",
            text=[
                f"<b>{n}</b><br>{amount(axis, e)}, then {amount(axis, f)}"
                for n, e, f in zip(rung.names, rung.early, rung.full, strict=True)
            ],
            hovertemplate="%{text}<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(title_text=look.title(axis, of=" at the early rung"))
    figure.update_yaxes(title_text=look.title(axis, of=" at full training"))
    look.note(
        figure,
        "Kendall's tau over fully trained trials only: those stopped early have no full score, "
        "so the true correlation over all proposals is likely higher.",
    )
    return figure
