"""The final pass, after training has ended: quiet latency, test scores, front, rule, report.

Search-time latency is provisional. Here the front and its near neighbours are timed together,
interleaved, while nothing trains; then the front is taken anew and its members are scored once on
the test split. Everything is kept per trial (final.json), so a stop loses only the network in hand.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from nasx.errors import NasxError
from nasx.files import read_json, write_json
from nasx.results.front import front, near_front
from nasx.results.quiet import Note, time_quietly
from nasx.results.wholes import Wholes
from nasx.run import Run
from nasx.trial import Final, Snapshot, Trial

if TYPE_CHECKING:
    from torch import nn

    from nasx.cost.samples import Fed
    from nasx.search.trained import Trained
    from nasx.shape import Shape


def finish(run: Run, trained: Trained, note: Note) -> None:
    """Measure what a result needs and write front.json, rule.json and report.html."""
    from nasx.results.scanned import keep_steps

    snapshot = run.snapshot()
    if front(snapshot):
        _quiet(run, trained, snapshot, note)
        keep_steps(run, trained.shape, note)
        _test(run, trained, note)
    write_results(run, note)


def write_results(run: Run, note: Note) -> None:
    """Write front.json, rule.json and report.html from the record alone."""
    from nasx.registry import space
    from nasx.report import report
    from nasx.results.rule import rule

    snapshot = run.snapshot()
    write_json(run.path / "front.json", front(snapshot))
    if any(space(reference).axes for reference in snapshot.study.spaces):
        try:
            found = rule(snapshot)
            write_json(run.path / "rule.json", found.to_json())
            if found.refused:
                note(f"no scaling rule: {found.refused}")
        except NasxError as error:
            note(f"no scaling rule: {error}")
    report(snapshot)


def _quiet(run: Run, trained: Trained, snapshot: Snapshot, note: Note) -> None:
    """Time the front and its neighbours together; keep what is measured already."""
    from nasx.cost.samples import fed
    from nasx.cost.ties import indistinct
    from nasx.search.trained import wants_latency

    members = [e["trial"] for e in front(snapshot, latency="provisional")]
    near = [f"t{n:04d}" for n in near_front(snapshot, snapshot.study.final.neighbours)]
    # What was trained again may stand on the front however the means turned out: time it too.
    near += [t.name for t in _repeated(snapshot)]
    roles = dict.fromkeys(members, "front") | {n: "neighbour" for n in near if n not in members}
    numbers = {int(name[1:]): role for name, role in roles.items()}
    if not wants_latency(snapshot.study):
        for number, role in numbers.items():
            _keep(run, number, role=role)
        return
    if _one_pass(run, numbers):
        return
    note(f"quiet pass: timing {len(numbers)} networks")
    networks: dict[str, tuple[nn.Module, Shape] | Fed] = {}
    for number in numbers:
        model, shape = _network(run, trained, snapshot, number)
        networks[f"t{number:04d}"] = fed(model, shape, trained.task)
    wholes = Wholes(snapshot, numbers, trained.shape, note)
    beside = {name: (n.model, n.shape) for name, n in wholes.networks.items()}
    study = snapshot.study
    timed = time_quietly(
        {**networks, **beside}, study.measure, study.search.seed, run.path / "latency.jsonl", note
    )
    same = indistinct({n: timed.latencies[n].by_pass for n in networks if n in timed.latencies})
    for line in (*_unlike(timed.faults), *_alike(same)):
        note(line)
    # Milliseconds of two passes, days or machines apart, must not meet on one front.
    for number in snapshot.finals:
        if number not in numbers:
            _keep(run, number, latency=None, fault=None)
    for number, role in numbers.items():
        name = f"t{number:04d}"
        latency = timed.latencies.get(name)
        found: dict[str, Any] | None = None
        if latency:
            found = {**latency.to_json(), "same_as": list(same[name])}
            found |= wholes.beside(number, timed.latencies)
        _keep(run, number, role=role, latency=found, fault=timed.faults.get(name))


def _repeated(snapshot: Snapshot) -> list[Trial]:
    again = {t.replicate_of for t in snapshot.trials}
    return [t for t in snapshot.trials if t.number in again]


def _unlike(faults: dict[str, str]) -> list[str]:
    return [f"latency: {name} cannot be timed: {fault}" for name, fault in faults.items()]


def _alike(same: dict[str, tuple[str, ...]]) -> list[str]:
    """Say once for each pair that its latencies cannot be told apart."""
    return [
        f"latency: {name} and {', '.join(later)} cannot be told apart"
        for name, others in same.items()
        if (later := [other for other in others if other > name])
    ]


def _one_pass(run: Run, numbers: Iterable[int]) -> bool:
    """Say whether one quiet pass looked at all of these trials.

    All that it timed share its calibrator's time; one that it could not time has its fault.
    """
    passes: set[tuple[Any, ...] | None] = set()
    for kept in (_final(run, number) for number in numbers):
        if kept and kept.latency:
            passes.add((kept.latency["calibrator_ms"], kept.latency["machine"]))
        elif not (kept and kept.fault):
            passes.add(None)
    return len(passes) == 1 and None not in passes


def _test(run: Run, trained: Trained, note: Note) -> None:
    """Score every front member once on the test split."""
    snapshot = run.snapshot()
    missing = []
    for entry in front(snapshot):
        number = int(entry["trial"][1:])
        kept = _final(run, number)
        if kept is None or not kept.test:
            missing.append(number)
    if missing:
        note(f"test split: scoring {len(missing)} networks")
    for number in missing:
        model, shape = _network(run, trained, snapshot, number)
        _keep(run, number, role="front", test=trained.task.score(model, "test", shape))


def _network(
    run: Run, trained: Trained, snapshot: Snapshot, number: int
) -> tuple[nn.Module, Shape]:
    from nasx.readback import deployed_network
    from nasx.registry import space

    trial = snapshot.trial(number)
    candidate = space(trial.space).from_json(trial.candidate)
    model = deployed_network(candidate, trained.task, run.folder(number) / "checkpoint")
    return model, candidate.input_shape(trained.shape)


def _final(run: Run, number: int) -> Final | None:
    kept = read_json(run.folder(number) / "final.json")
    return Final(**kept) if kept else None


def _keep(run: Run, number: int, **found: Any) -> None:
    """Add findings to a trial's final.json."""
    kept = _final(run, number) or Final(number, found["role"])
    write_json(run.folder(number) / "final.json", asdict(replace(kept, **found)))
