"""Scan the widths around each part of one network for steps of its latency.

The networks are untrained, for time does not hang on weights, and timed together in the study's
setting. How many there are is bounded, whatever the space: the scan is a small part of a search.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasx.errors import SpaceError
from nasx.results import quiet
from nasx.results.quiet import Note
from nasx.results.steps import Rung, against, part_found

if TYPE_CHECKING:
    from torch import nn

    from nasx.cost.latency import Latency
    from nasx.shape import Shape, TaskShape
    from nasx.space import Part, Space
    from nasx.study import Measure
    from nasx.trial import Trial

RUNGS = 9  # widths of one part at most
LEAST = 3  # widths without which a part is not worth looking at
MOST = 36  # networks in all
COMPILED = {"aot": 12, "compile": 12}  # networks in all where each takes seconds to compile
GRAIN = 8  # channels that kernels take at a time, or a multiple of it
TRIES = 2  # measurements, while other work disturbs them
SECONDS = 15.0  # one of them may take, passes permitting
PASSES = (12, 60)  # 12 bound a median with 99.9 %; beyond 60 little is gained
RUNS = 6  # of a network in one visit, warming and calibrator included


@dataclass(frozen=True)
class Network:
    """A network to be timed: what is deployed, untrained, the shape of one sample, its MACs."""

    model: nn.Module
    shape: Shape
    macs: int


def around(part: Part, most: int = RUNGS) -> list[int]:
    """Return at most `most` of a part's widths by size: its own and what tells steps from slopes.

    The nearest multiples of 8 to either side come first, then the next widths, then the rest by
    nearness.
    """
    own, rest = part.width, [w for w in part.widths if w != part.width]
    up, down = [w for w in rest if w > own], [w for w in rest if w < own][::-1]
    round_up, round_down = ([w for w in side if w % GRAIN == 0][:3] for side in (up, down))
    wanted = [own]
    for i in range(2):
        wanted += [*round_up[i : i + 1], *round_down[i : i + 1]]
    wanted += [*up[:1], *down[:1], *round_up[2:], *round_down[2:]]
    wanted += sorted(rest, key=lambda w: abs(w - own))
    return sorted(list(dict.fromkeys(wanted))[:most])


def candidate_of(trial: Trial) -> Space:
    """Return the candidate of a trial."""
    from nasx.registry import space

    return space(trial.space).from_json(trial.candidate)


def untrained(candidate: Space, shape: TaskShape) -> Network:
    """Return the deployed network of a candidate, untrained, from a fixed seed."""
    import torch

    from nasx.cost.card import card_of

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = candidate.decide(candidate.build(shape)).eval()
    size = candidate.input_shape(shape)
    return Network(model, size, card_of(model, size).macs)


def scan(
    candidate: Space,
    shape: TaskShape,
    measure: Measure,
    *,
    trial: str,
    raw: Path,
    note: Note,
    seed: int = 0,
    ms: float | None = None,
) -> dict[str, Any] | None:
    """Return as JSON what widths around the parts of a candidate take, or None without parts.

    {"trial", "key", "measure", "machine", "contended", "macs", "ms", "parts", "left_out", "whole",
    "snapped"}; a part is as of `steps.part_found`. `snapped` is the candidate with every part as
    wide as costs no time, and its time against this one's; None where no part gains by that.
    `ms`, where the candidate's latency is known, sets how many passes there is time for.
    """

    parts = {name: part for name, part in candidate.parts(shape).items() if len(part.widths) > 1}
    if not parts:
        return None
    ladders, left_out = _ladders(candidate, shape, parts, COMPILED.get(measure.runtime, MOST))
    own, whole = candidate.key(shape), candidate.whole(shape)
    members = {rung.key(shape): rung for rungs in ladders.values() for rung in rungs.values()}
    members |= {own: candidate} | ({whole.key(shape): whole} if whole else {})
    networks = {key: untrained(member, shape) for key, member in members.items()}
    note(f"latency steps: timing {len(networks)} widths around {trial}")
    passes = _passes(len(networks), ms)
    latencies = _timed(networks, measure, seed, raw, note, passes)
    if own not in latencies:
        raise SpaceError(f"{trial} itself cannot be timed untrained")
    found = {}
    for name, rungs in ladders.items():
        rows = [
            Rung(width, networks[key].macs, latencies[key].by_pass)
            for width, key in ((w, r.key(shape)) for w, r in rungs.items())
            if key in latencies
        ]
        if len(rows) > 1:
            found[name] = part_found(rows, parts[name].width)
    mine: Latency = latencies[own]
    result: dict[str, Any] = {
        "trial": trial,
        "key": own,
        "measure": measure.model_dump(),
        "machine": mine.machine,
        "contended": any(latency.contended for latency in latencies.values()),
        "macs": networks[own].macs,
        "ms": mine.median_ms,
        "parts": found,
        "left_out": left_out,
        "whole": None,
        "snapped": None,
    }
    if whole is not None and (key := whole.key(shape)) in latencies and key != own:
        stands = against(mine.by_pass, latencies[key].by_pass)
        result["whole"] = {"macs": networks[key].macs, "ms": latencies[key].median_ms, **stands}
    widths = {n: p["free_up_to"]["wide"] for n, p in found.items() if p["free_up_to"]}
    if widths:
        result["snapped"] = _snapped(
            candidate, shape, widths, networks[own], measure, raw, seed, passes
        )
    return result


def _ladders(
    candidate: Space, shape: TaskShape, parts: Mapping[str, Part], room: int
) -> tuple[dict[str, dict[int, Space]], list[str]]:
    """Return the candidates of each part by width, and the parts there is no room for."""
    names = list(parts)
    if len(names) > room // LEAST:  # those whose narrowing saves most
        here = untrained(candidate, shape).macs
        gains = {}
        for name in names:
            low = around(parts[name], LEAST)[0]
            rung = _resized(candidate, shape, {name: low})
            gains[name] = here - untrained(rung, shape).macs if rung else 0
        kept = sorted(names, key=lambda n: -gains[n])[: room // LEAST]
        names = [name for name in names if name in kept]
    most = min(RUNGS, (room - 1) // len(names) + 1)
    ladders: dict[str, dict[int, Space]] = {}
    for name in names:
        rungs = {w: _resized(candidate, shape, {name: w}) for w in around(parts[name], most)}
        ladders[name] = {w: rung for w, rung in rungs.items() if rung is not None}
    return ladders, [name for name in parts if name not in names]


def _resized(candidate: Space, shape: TaskShape, widths: Mapping[str, int]) -> Space | None:
    """Return a candidate at other widths, or None where the space refuses it."""
    try:
        resized = candidate.resized(widths, shape)
    except SpaceError:
        return None
    return None if resized.refusal(shape) else resized


def _passes(networks: int, ms: float | None) -> int:
    """Return how many passes fit into the time, or the usual number where nothing is known."""
    if ms is None:
        return quiet.PASSES
    fit = int(1000 * SECONDS / (RUNS * networks * ms))
    return min(max(fit, PASSES[0]), PASSES[1])


def _timed(
    networks: Mapping[str, Network],
    measure: Measure,
    seed: int,
    raw: Path,
    note: Note,
    passes: int,
) -> dict[str, Latency]:
    asked = {key: (n.model, n.shape) for key, n in networks.items()}
    timed = quiet.time_quietly(asked, measure, seed, raw, note, passes=passes, tries=TRIES)
    return timed.latencies


def _snapped(
    candidate: Space,
    shape: TaskShape,
    widths: Mapping[str, int],
    own: Network,
    measure: Measure,
    raw: Path,
    seed: int,
    passes: int,
) -> dict[str, Any] | None:
    """Time the candidate with all parts at their useful width: steps of parts need not add up."""
    resized = _resized(candidate, shape, widths)
    if resized is None:
        return None
    network = untrained(resized, shape)
    pair = {"own": own, "snapped": network}
    latencies = _timed(pair, measure, seed + 1, raw, lambda said: None, passes)
    if latencies.keys() != pair.keys():
        return None
    stands = against(latencies["snapped"].by_pass, latencies["own"].by_pass)
    return {
        "candidate": resized.in_effect(),
        "widths": dict(widths),
        "macs": network.macs - own.macs,
        **stands,
    }
