"""`nasx.search`: one study, from its file to a front, a rule and a report."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from nasx.errors import Interrupted, NasxError
from nasx.files import demand_space, locked, read_json, write_json, write_text
from nasx.record import Record
from nasx.run import Run, study_of
from nasx.search.engine import Engine
from nasx.search.evaluate import Evaluator
from nasx.search.inline import run_inline
from nasx.search.proposals import Proposer
from nasx.search.replicates import missing_replicate
from nasx.search.showing import Showing, left_tidy
from nasx.search.trained import Trained
from nasx.storage import open_store
from nasx.study import Study, changes
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
        study = _continued(folder, study, add_trials)
        evaluator = evaluate or _training(study, folder)
        with _record(folder, study, evaluator, storage) as (record, showing):
            showing.begin(display)
            _search(record, evaluator, showing, address, dashboard, folder)
        run = Run(folder, storage)
        if isinstance(evaluator, Trained):
            from nasx.results.final import finish

            finish(run, evaluator, showing.note)
        showing.end("done")
    return run


def _training(study: Study, folder: Path) -> Evaluator:
    return Trained(study, folder.resolve(), Path.cwd())


def _continued(folder: Path, study: Study, add_trials: int) -> Study:
    """Return the study to run in this folder; refuse a folder that holds another one."""
    resolved = folder / "resolved.yaml"
    if resolved.is_file():
        old = study_of(folder)
        differences = changes(old, study)
        if differences:
            raise NasxError(
                f"{folder} holds another study: {'; '.join(differences)}; "
                "give --out for a new run folder"
            )
        trials = max(old.search.trials, study.search.trials)
    else:
        trials = study.search.trials
    if add_trials:
        trials += add_trials
    elif resolved.is_file():
        trials = max(trials, study.search.trials)
    return study.model_copy(update={"search": study.search.model_copy(update={"trials": trials})})


@contextlib.contextmanager
def _record(
    folder: Path, study: Study, evaluator: Evaluator, storage: str | None
) -> Iterator[tuple[Record, Showing]]:
    """Open the record for writing: files first, then the database, claimed for this driver."""
    from nasx.provenance import describe

    data = evaluator.fingerprint()
    identity = study.identity(data)
    old = read_json(folder / "provenance.json")
    if old and old["identity"] != identity:
        raise NasxError(
            f"{folder} holds another study: its data have changed; give --out for a new run folder"
        )
    provenance = old or describe(identity, data, user_files(study), study.search.seed)
    if old:
        provenance["resumes"] += 1
    if isinstance(evaluator, Trained):
        splits: tuple[Split, ...] = ("train", "valid", "test")
        provenance["splits"] = {split: evaluator.task.size(split) for split in splits}
    write_text(folder / "resolved.yaml", yaml.safe_dump(study.resolved(), sort_keys=False))
    if not (folder / "study.yaml").exists():
        write_text(folder / "study.yaml", yaml.safe_dump(study.resolved(), sort_keys=False))
    write_json(folder / "provenance.json", provenance)
    store = open_store(folder, study, identity, storage, create=True)
    started = time.monotonic()
    try:
        store.claim()
        record = Record(folder, study, store)
        if old:
            provenance.setdefault("restarts", []).append(len(record.trials))
            write_json(folder / "provenance.json", provenance)
        yield record, Showing(record, resumed=provenance["resumes"])
    finally:
        provenance["seconds"] += time.monotonic() - started
        with contextlib.suppress(OSError):
            write_json(folder / "provenance.json", provenance)
        store.close(release=True)


def user_files(study: Study) -> list[Path]:
    """Return the user's own files that a study executes."""
    named = [r.rpartition(":")[0] for r in study.spaces if ".py:" in r]
    return [Path(n) for n in named]


def _search(
    record: Record,
    evaluator: Evaluator,
    showing: Showing,
    address: str | None,
    dashboard: bool,
    folder: Path,
) -> None:
    """Run the engine on the executor the study names."""
    study = record.study
    inline = evaluator.cheap or study.resources.executor == "inline"
    if not _anything_left(record):
        return
    slots, ours = 1, False
    if not inline:
        from nasx.search.cluster import dashboard_lines, leave_ray, ray_runs, start_ray
        from nasx.search.tune import run_on_tune

        ours = not ray_runs()
        resources = study.resources
        slots = start_ray(address, resources.cpu, resources.gpu, dashboard)
        if dashboard:
            showing.note(dashboard_lines())
    engine = Engine(record, proposers(study, evaluator), slots=slots, showing=showing)
    try:
        if inline:
            run_inline(engine, evaluator, folder / "stop")
        else:
            run_on_tune(engine, evaluator, folder / "stop")
    finally:
        engine.close()
        if ours:
            leave_ray()
    engine.verdict()
    if engine.stopping:
        raise Interrupted(stopped_at(record.trials, study.search.trials))


def stopped_at(trials: Sequence[Trial], budget: int) -> str:
    """Say what a stopped search leaves: nothing is lost, what had begun goes on."""
    saved = sum(t.state is State.INTERRUPTED for t in trials)
    parts = [f"{len(trials) - saved} of {budget} trials are in the record"]
    if saved:
        parts.append(f"{saved} more {'was' if saved == 1 else 'were'} saved on the way")
    return f"stopped: {', '.join(parts)}"


def _anything_left(record: Record) -> bool:
    begun = sum(t.replicate_of is None for t in record.trials)
    fewer = begun < record.study.search.trials
    return fewer or bool(record.unfinished) or missing_replicate(record) is not None


def proposers(study: Study, evaluator: Evaluator) -> list[Proposer]:
    """Return one proposer per space of a study."""
    from nasx.registry import space, study_domains

    made = []
    for reference in study.spaces:
        cls = space(reference)
        made.append(Proposer(reference, cls, study_domains(study, cls), study, evaluator))
    return made
