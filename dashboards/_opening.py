"""How the page opens: the study, what the run stands on, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dashboards._markup import bound, esc, section
from dashboards._points import space_name
from dashboards._verdict import Finding, split_size
from nasx.axes import AXES
from nasx.quantity import brief, duration
from nasx.study import Study
from nasx.trial import Snapshot, State


def header(record: Snapshot, study: Study) -> str:
    """Return the title, the question, and what the run stands on."""
    facts = "".join(
        f"<div><dt>{esc(name)}</dt><dd>{esc(value)}</dd></div>"
        for name, value in _facts(record, study)
        if value
    )
    live = [t for t in record.trials if t.state in (State.RUNNING, State.INTERRUPTED)]
    banner = ""
    if live:
        banner = (
            f'<p class="banner">The search has not ended: {len(live)} '
            f"trial{'s are' if len(live) > 1 else ' is'} unfinished. What follows may change.</p>"
        )
    return (
        f'<header><p class="eyebrow">nasx report</p><h1>{esc(record.name)}</h1>'
        f'<p class="lead">{esc(study.desc)}</p>{banner}<dl class="facts">{facts}</dl></header>'
    )


def _facts(record: Snapshot, study: Study) -> list[tuple[str, str]]:
    provenance = record.provenance
    machine, versions = _dict(provenance.get("machine")), _dict(provenance.get("versions"))
    originals = [t for t in record.trials if t.searched]
    twins = sum(t.replicate_of is not None for t in record.trials)
    controls = sum(t.control_of is not None for t in record.trials)
    states = [t.state for t in originals]
    words = {State.COMPLETE: "full", State.STOPPED: "stopped", State.FAILED: "failed"}
    counts = [f"{states.count(s)} {word}" for s, word in words.items() if s in states]
    trials = f"{len(states)}: {', '.join(counts)}" if counts else str(len(states))
    again = [f"{n} {word}{'s' if n > 1 else ''}" for n, word in
             ((twins, "replicate"), (controls, "control")) if n]  # fmt: skip
    trials += f"; and {' and '.join(again)}" if again else ""
    task = study.task if isinstance(study.task, str) else str(study.task.get("name", "task"))
    gpus = machine.get("gpus") or []
    resumes, seconds = provenance.get("resumes", 0), provenance.get("seconds")
    started = str(provenance.get("started", ""))
    measure = study.measure
    shown = ("nasx", "python", "torch", "ray", "optuna", "onnxruntime")
    return [
        ("Space", ", ".join(space_name(s) for s in study.spaces)),
        ("Task", task),
        ("Objectives", ", ".join(f"{w} {AXES[a].label}" for a, w in study.objectives.items())),
        ("Limits", ", ".join(f"{AXES[a].label} {_bound(t)}" for a, t in study.limits().items())),
        ("Trials", trials),
        ("Full training", f"{brief(study.fidelity.full)} samples"),
        ("Started", started[:16].replace("T", " ")),
        ("Wall time", duration(float(seconds)) if isinstance(seconds, int | float) else ""),
        ("Continued", f"{resumes} time{'s' if resumes != 1 else ''}" if resumes else "never"),
        ("Seeds", f"search {study.search.seed}, {study.final.seeds} per front member"),
        ("Machine", ", ".join(str(x) for x in (machine.get("cpu", ""), *gpus) if x)),
        ("Cores", str(machine.get("cores", ""))),
        (
            "Latency",
            f"{measure.runtime}, {measure.device}, batch {measure.batch}, "
            f"{measure.threads} thread{'s' if measure.threads > 1 else ''}",
        ),
        ("Versions", ", ".join(f"{n} {versions[n]}" for n in shown if n in versions)),
        ("Identity", str(provenance.get("identity", ""))),
    ]


def _bound(limit: tuple[str, float]) -> str:
    return f"{'at most' if limit[0] == '<=' else 'at least'} {brief(limit[1])}"


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def cautions(record: Snapshot) -> str:
    """Return what the spaces say of their results, or nothing."""
    said = _dict(record.provenance.get("cautions"))
    lines = [
        (name, line) for name, lines in said.items() if isinstance(lines, list) for line in lines
    ]
    if not lines:
        return ""
    body = "".join(f"<p><strong>{esc(name)}</strong>: {esc(line)}</p>" for name, line in lines)
    return section("Keep in mind", body)


def verdict(cards: Sequence[Finding], record: Snapshot) -> str:
    """Return the verdict, one card for each finding."""
    if not cards:
        return section(
            "Verdict",
            '<p class="none">No network has been fully trained within the limits yet.</p>',
        )
    body = "".join(
        f'<article class="finding" data-trial="{card.number}" tabindex="0">'
        f'<p class="label">{esc(card.label)} <span>t{card.number:04d}</span></p>'
        f'<p class="number">{esc(card.headline)} <small>{esc(card.beside)}</small></p>'
        + "".join(f"<p>{bound(s)}</p>" for s in card.sentences)
        + "</article>"
        for card in cards
    )
    size = split_size(record, "test")
    how = ""
    if "top1" in record.study.objectives:  # of other scores it says nothing
        how = (
            f"± is one binomial standard error over {size:,} test images. " if size else
            "The record does not state the size of the test split, so no standard error is given. "
        )  # fmt: skip
    how += "The test split was never used to choose."
    return section("Verdict", f'<div class="findings">{body}</div><p class="note">{esc(how)}</p>')
