"""Records made by hand: what figures, reports and the live page are tested on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from nasx.results.steps import Rung, part_found
from nasx.study import Study
from nasx.trial import Final, Rejection, RungScore, Snapshot, State, Trial

HOSTILE = "</script><img src=x onerror=alert(1)>&\u2028"
SPLITS = {"train": 4000, "valid": 400, "test": 900}


def study(**changes: Any) -> Study:
    base: dict[str, Any] = {
        "name": "made",
        "desc": "What does a made study show?",
        "space": "tinynet",
        "task": "digits",
        "objectives": {"top1": "maximize", "macs": "minimize", "latency_ms": "minimize"},
        "constraints": {"params": "<= 1.0e6"},
        "fidelity": {"full": 9000},
    }
    return Study.model_validate({**base, **changes})


def trial(
    number: int,
    top1: float = 80.0,
    macs: float = 2e6,
    state: State = State.COMPLETE,
    rungs: int = 3,
    **changes: Any,
) -> Trial:
    """A trial whose score grows to `top1` over its rungs; latency follows the MACs."""
    values = {"macs": macs, "params": macs / 10, "bytes": macs / 2.5, "latency_ms": macs / 4e6}
    scores = tuple(
        RungScore(i, budget, {"top1": top1 - 8 * (2 - i), **values})
        for i, budget in enumerate((1000, 3000, 9000)[:rungs])
    )
    fields: dict[str, Any] = {
        "space": "tinynet",
        "candidate": {"base": "micro", "r": 0.5 + number / 100, "d": 1.0, "act": "relu"},
        "key": f"{number:012x}",
        "card": {"params": macs / 10, "macs": macs, "unpriced": []},
        "origin": "start:baseline" if number == 0 else "gp",
    }
    return Trial(number=number, state=state, rungs=scores, **{**fields, **changes})


def many(path: Path) -> Snapshot:
    """A finished run with every state, replicates, rejections, finals, files and a rule."""
    full = [
        trial(0, 80, 4e6),
        trial(1, 70, 1e6),
        trial(2, 78, 2e6),
        trial(3, 88, 8e6),
        trial(4, 75, 5e6),  # dominated
        trial(5, 95, 20e6),  # over the limit on parameters
        trial(6, 81, 3e6, card={"macs": 3e6, "unpriced": ["odd"]}),
    ]
    others = [
        trial(7, 60, 6e6, State.STOPPED, 1, candidate={"base": "micro", "r": 0.9, "act": "silu"}),
        trial(8, 62, 6e6, State.STOPPED, 2),
        trial(9, 60, 6e6, State.FAILED, 1, reason="ValueError: <b>bad</b>"),
        trial(10, 60, 6e6, State.RUNNING, 1),
        trial(11, 60, 6e6, State.INTERRUPTED, 0),
        trial(12, 76, 2e6, replicate_of=2, seed=1, origin="replicate"),
        trial(13, 74, 2e6, control_of=2, origin="control:t0002"),
        trial(14, 73, 2e6, control_of=2, seed=1, origin="control:t0002"),
        trial(15, 60, 2e6, State.FAILED, 0, replicate_of=2, seed=2, reason="MemoryError: <b>"),
        trial(
            16, 60, 9e6, State.FAILED, 0, control_of=3, reason="control: its cost is not matched"
        ),
    ]
    for t in full:
        _files(path / "trials" / t.name, t)
    (path / "rule.json").write_text(json.dumps(rule()))
    (path / "steps.json").write_text(json.dumps(steps()))
    finals = {
        n: Final(n, "front", {"top1": full[n].values["top1"] - 1}, {"median_ms": 0.2 * (n + 1)})
        for n in (0, 1, 2, 3)
    }
    finals[2] = replace(finals[2], latency={"median_ms": 0.6, "whole": steps()["whole"]})
    rejections = tuple(
        Rejection("tinynet", {"r": 1.2}, f"{n:012x}", "params", 1e6, 1e6 * (2 + n), n)
        for n in range(3)
    )
    provenance = {
        "identity": "0123456789ab",
        "splits": SPLITS,
        "started": "2026-01-02T03:04:05+0000",
        "seconds": 341.0,
        "resumes": 2,
        "machine": {"cpu": "A processor", "cores": 2, "gpus": []},
        "versions": {"nasx": "0.1.0", "torch": "2.13.0"},
        "restarts": [4],
        "cautions": {"tinynet": ["Small networks <only>."]},
    }
    made = study()
    trials = (*full, *others)
    return Snapshot("made", path, made, trials, rejections, finals, provenance, duplicates=4)


def one(path: Path) -> Snapshot:
    return Snapshot("made", path, study(), (trial(0),))


def zero(path: Path) -> Snapshot:
    return Snapshot("made", path, study(), ())


def hostile(path: Path) -> Snapshot:
    """Two spaces, and every text from outside tries to become markup."""
    odd = {"candidate": {HOSTILE: HOSTILE, "r": 1.0}, "space": HOSTILE, "origin": HOSTILE}
    trials = (
        trial(0, 80, 4e6, **odd),
        trial(1, 70, 1e6, **{**odd, "candidate": {HOSTILE: "b", "r": 2.0}}),
        trial(2, 60, 1e6, State.FAILED, 1, **odd, reason=HOSTILE),
        trial(3, 90, 9e6, card={"unpriced": [HOSTILE]}),
    )
    for t in trials:
        _files(path / "trials" / t.name, t, layer=HOSTILE)
    made = study(desc=HOSTILE, space=[HOSTILE, "tinynet"])
    found = rule()
    found["ranges"] = {HOSTILE: [0, 1]}
    for point in found["points"]:
        point["axes"] = {HOSTILE: point["axes"]["r"]}
    found["refused"] = HOSTILE
    (path / "rule.json").write_text(json.dumps(found))
    (path / "steps.json").write_text(json.dumps(steps(HOSTILE)))
    provenance = {HOSTILE: HOSTILE, "machine": {"cpu": HOSTILE}}
    return Snapshot(HOSTILE, path, made, trials, provenance=provenance)


def rule() -> dict[str, Any]:
    """The JSON of a fitted rule with one axis and one solved number."""
    c = [0.25, 0.5, 1.0, 2.0]
    curve = {"c": c, "mean": [0.5, 0.7, 0.9, 1.2], "low": [0.3] * 4, "high": [1.4] * 4}
    return {
        "base_macs": 4e6,
        "refused": None,
        "form": "gp",
        "ranges": {"r": [0.3, 1.3]},
        "points": [
            {"trial": f"t{i:04d}", "c": x, "axes": {"r": r}, "others": {"c": x, "w": w}}
            for i, (x, r, w) in enumerate(
                zip(c, (0.5, 0.7, 0.9, 1.2), (1.1, 0.8, 1.2, 0.9), strict=True)
            )
        ],
        "axes": {
            "r": {
                "gp": {"left_out": 0.05, "curve": curve},
                "power": {"left_out": 0.06, "curve": curve},
            }
        },
        "null": {"c": c, "axes": {"r": [0.6, 0.8, 1.0, 1.3]}, "error": {"r": 0.1}},
    }


def steps(name: str = "stage 1") -> dict[str, Any]:
    """The JSON of a scan of two parts around t0002, whose kernels take 16 channels at a time."""

    def part(own: int, widths: tuple[int, ...]) -> dict[str, Any]:
        rungs = [
            Rung(w, 20_000 * w, tuple((1 + -(-w // 16)) * (1 + i % 3 / 300) for i in range(20)))
            for w in widths
        ]
        return part_found(rungs, own)

    parts = {name: part(36, (24, 28, 32, 33, 36, 40, 44, 48)), "stage 2": part(64, (48, 56, 64))}
    stands = {"ratio": 1.1, "low": 1.05, "high": 1.2, "slower": True}
    return {
        "trial": "t0002",
        "macs": 2_000_000,
        "contended": True,
        "parts": parts,
        "left_out": [],
        "whole": {"macs": 8_000_000, "ms": 1.0, **stands},
        "snapped": {"widths": {name: 48}, "macs": 240_000, **stands, "low": 0.99, "slower": False},
    }


def _files(folder: Path, t: Trial, layer: str = "stem") -> None:
    folder.mkdir(parents=True)
    rows = "".join(f"{s},{2.3 - s / 9000:.4f},0.01,\n" for s in range(500, t.samples + 1, 500))
    (folder / "curve.csv").write_text("samples,loss,lr,notes\n" + rows)
    macs = int(t.values["macs"])
    layers = [
        {"name": layer, "kind": "Conv2d", "params": 10, "macs": macs // 4},
        {"name": "stages.0", "kind": "Conv2d", "params": 20, "macs": macs // 2},
        {"name": "head", "kind": "Linear", "params": 30, "macs": macs // 4},
        {"name": "act", "kind": "ReLU", "params": 0, "macs": 0},
    ]
    (folder / "cost.json").write_text(json.dumps({"macs": macs, "by_layer": layers}))
