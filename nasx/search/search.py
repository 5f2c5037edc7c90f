"""`nasx.search`: one study, from its file to a front, a rule and a report."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasx.cost.device import wants_gpu
from nasx.errors import Interrupted, NasxError, NoTrialCompleted
from nasx.files import demand_space, locked, write_json
from nasx.record import Record
from nasx.results.front import front
from nasx.results.observed import timing
from nasx.run import Run
from nasx.search.engine import Engine
from nasx.search.evaluate import Evaluator
from nasx.search.inline import run_inline
from nasx.search.joining import prepare_joining
from nasx.search.opening import continued, opened
from nasx.search.proposals import Proposer
from nasx.search.replicates import Repeats
from nasx.search.showing import Showing, left_tidy
from nasx.search.timing import settle
from nasx.search.trained import Trained, wants_latency
from nasx.study import Study
from nasx.trial import State, Trial

if TYPE_CHECKING:
    from nasx.tasks.base import Split
    from nasx.terminal import Display


def search(
    study: Study,
    out: str | Path | None = None,
    *,
    storage: str | None = None,
    address: str | None = None,
    add_trials: int = 0,
    dashboard: bool = False,
    evaluate: Evaluator | None = None,
    display: Display | None = None,
) -> Run:
    """Run a study, or continue it; return its run.

    `out` is the run folder (default runs/NAME), `storage` a database URL for the record, `address`
    a running Ray cluster, `add_trials` extends a study, `evaluate` replaces training (a table, a
    simulation). Raises NothingFeasible, NoTrialCompleted, Interrupted, or NasxError for a run that
    is in use or belongs to another study.
    """
    folder = Path(out) if out is not None else Path("runs") / study.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NasxError(
            f"{folder} cannot be a run folder ({error.strerror}); give --out for another one"
        ) from error
    in_use = f"{folder} is in use by another nasx search"
    with left_tidy(display), locked(folder / "lock", in_use):
        demand_space(folder)
        study = continued(folder, study, add_trials)
        evaluator = evaluate or _training(study, folder)
        data, splits = evaluator.fingerprint(), _splits(evaluator)
        with opened(folder, study, data, splits, storage) as (record, provenance):
            showing = Showing(record, provenance["resumes"])
            showing.begin(display)
            drive(record, evaluator, showing, provenance, address=address, dashboard=dashboard)
        run = Run(folder, storage)
        if isinstance(evaluator, Trained):
            from nasx.results.final import finish

            _settle_quiet_pass(run, evaluator)
            finish(run, evaluator, showing.note)
        showing.end("done")
    return run


def _training(study: Study, folder: Path) -> Evaluator:
    return Trained(study, folder.resolve(), Path.cwd())


def _splits(evaluator: Evaluator) -> dict[str, int]:
    names: tuple[Split, ...] = ("train", "valid", "test")
    return {n: evaluator.task.size(n) for n in names} if isinstance(evaluator, Trained) else {}


def drive(
    record: Record,
    evaluator: Evaluator,
    showing: Showing,
    provenance: dict[str, Any],
    *,
    proposed: Sequence[Proposer] | None = None,
    address: str | None = None,
    dashboard: bool = False,
) -> None:
    """Run the engine on the executor the study names; `proposed` replaces its samplers."""
    study, stop = record.study, record.path / "stop"
    repeats = Repeats(record, evaluator)
    if not _anything_left(record, repeats):
        _tell_controls(repeats, showing, provenance)
        return
    if evaluator.cheap or study.resources.executor == "inline":
        if address or dashboard:
            raise NasxError(
                "--address and --dashboard need `resources: {executor: ray}` in the study"
            )
        _settle(record, evaluator, provenance)
        with _engine(record, evaluator, repeats, 1, showing, provenance, proposed) as engine:
            run_inline(engine, evaluator, stop)
        return
    if address is not None:
        prepare_joining(address)
    from nasx.search.cluster import dashboard_lines, leave_ray, ray_runs, start_ray
    from nasx.search.tune import run_on_tune

    ours, resources = not ray_runs(), study.resources
    slots = start_ray(address, resources.cpu, resources.gpu, dashboard)
    try:
        if dashboard:
            showing.note(dashboard_lines())
        _settle(record, evaluator, provenance, cluster=address is not None or not ours)
        with _engine(record, evaluator, repeats, slots, showing, provenance, proposed) as engine:
            run_on_tune(engine, evaluator, stop)
    finally:
        if isinstance(evaluator, Trained):
            evaluator.timers.clear()  # they end with their last handle
        if ours:
            leave_ray()


@contextlib.contextmanager
def _engine(
    record: Record,
    evaluator: Evaluator,
    repeats: Repeats,
    slots: int,
    showing: Showing,
    provenance: dict[str, Any],
    proposed: Sequence[Proposer] | None,
) -> Iterator[Engine]:
    """Hold an engine while an executor runs it; then say what came of the search."""
    made = proposers(record.study, evaluator, slots) if proposed is None else proposed
    inline = evaluator.cheap or record.study.resources.executor == "inline"
    engine = Engine(record, made, repeats, slots=slots, showing=showing, beside=not inline)
    try:
        yield engine
    finally:
        engine.close()
        _tell_controls(repeats, showing, provenance)
    _verdict(engine)


def _tell_controls(repeats: Repeats, showing: Showing, provenance: dict[str, Any]) -> None:
    """Say and keep which members have no control and why, one line for each reason."""
    without = repeats.controls.without
    if without:
        provenance["without_control"] = {**provenance.get("without_control", {}), **without}
    for reason in dict.fromkeys(without.values()):
        showing.note(f"no control: {reason}")


def _settle(
    record: Record, evaluator: Evaluator, provenance: dict[str, Any], cluster: bool = False
) -> None:
    """Settle on the one device model that this run times on, and keep it in its provenance."""
    measure = record.study.measure
    if not (isinstance(evaluator, Trained) and wants_latency(record.study)):
        return
    kept = provenance.get("timed_on")
    if cluster and measure.via is None:
        from nasx.search.nodes import node_models, start_timers

        nodes = node_models(wants_gpu(measure))
        evaluator.place = settle(measure, kept, nodes)
        if len(evaluator.place.nodes) < len(nodes):
            start_timers(evaluator, evaluator.place.nodes)
    else:
        evaluator.place = settle(measure, kept)
    provenance["timed_on"] = evaluator.place.model
    write_json(record.path / "provenance.json", provenance)


def _settle_quiet_pass(run: Run, evaluator: Trained) -> None:
    """Refuse a quiet pass that is still to come on another device model than the run's."""
    snapshot = run.snapshot()
    if evaluator.place is not None or not wants_latency(snapshot.study):
        return
    if front(snapshot) and timing(snapshot) == "provisional":
        settle(snapshot.study.measure, snapshot.provenance.get("timed_on"))


def _verdict(engine: Engine) -> None:
    """Raise what a search has to say when it did not end well."""
    if engine.trouble is not None:
        raise engine.trouble
    if engine.stopping:
        raise Interrupted(stopped_at(engine.record.trials, engine.study.search.trials))
    trials = engine.record.trials
    if not trials or any(t.state is State.COMPLETE for t in trials):
        return
    failed = [t for t in trials if t.state is State.FAILED]
    if len(failed) == len(trials):
        raise NoTrialCompleted(
            f"{len(trials)} trials ran and all failed; the first: {failed[0].reason}"
        )
    also = f" ({len(failed)} failed; the first: {failed[0].reason})" if failed else ""
    raise NoTrialCompleted(
        f"{len(trials)} trials ran and none reached full fidelity{also}: continue with "
        "--add-trials, or give search.hours more, or begin anew with fewer fidelity.rungs"
    )


def stopped_at(trials: Sequence[Trial], budget: int) -> str:
    """Say what a stopped search leaves: nothing is lost, what had begun goes on."""
    saved = sum(t.state is State.INTERRUPTED for t in trials)
    parts = [f"{len(trials) - saved} of {budget} trials are in the record"]
    if saved:
        parts.append(f"{saved} more {'was' if saved == 1 else 'were'} saved on the way")
    return f"stopped: {', '.join(parts)}"


def _anything_left(record: Record, repeats: Repeats) -> bool:
    begun = sum(t.searched for t in record.trials)
    fewer = begun < record.study.search.trials
    return fewer or bool(record.unfinished) or repeats.next() is not None


def proposers(study: Study, evaluator: Evaluator, slots: int = 1) -> list[Proposer]:
    """Return one proposer per space of a study."""
    from nasx.registry import space, study_domains

    made = []
    for reference in study.spaces:
        cls = space(reference)
        domains = study_domains(study, cls)
        made.append(Proposer(reference, cls, domains, study, evaluator, slots))
    return made
