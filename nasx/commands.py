"""Commands about a study and its run: search, its results, its files."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from nasx.printing import emit, quantities

RUN = click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
STUDY = click.argument("study", metavar="STUDY")
SET = click.option(
    "--set", "sets", multiple=True, metavar="a.b=v", help="Override a value of the study file."
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
STORAGE = click.option("--storage", metavar="URL", help="Database of the record, if on a server.")


@click.command()
@STUDY
@click.option("--out", metavar="RUN", type=click.Path(path_type=Path), help="Run folder.")
@SET
@click.option("--add-trials", metavar="N", type=click.IntRange(0), default=0, help="Extend it.")
@STORAGE
@click.option("--address", metavar="RAY", help="Join this Ray cluster, e.g. auto.")
@click.option("--dashboard", is_flag=True, help="Start Ray's dashboard and print its address.")
@JSON
def search(
    study: str,
    out: Path | None,
    sets: tuple[str, ...],
    add_trials: int,
    storage: str | None,
    address: str | None,
    dashboard: bool,
    as_json: bool,
) -> None:
    """Search, or continue a search, and write its front, rule and report.

    STUDY is a file or the name of a shipped study (see `nasx studies`). The same command
    continues where the record ends.
    """
    import nasx
    from nasx.terminal import display_for

    run = nasx.search(
        nasx.load(study, sets), out, storage=storage, address=address, add_trials=add_trials,
        dashboard=dashboard, display=display_for(sys.stderr),
    )  # fmt: skip
    if as_json:
        from nasx.run import status as counts

        emit(counts(run))
        return
    from nasx.fronttext import front_text

    entries = nasx.front(run)
    click.echo(front_text(entries))
    click.echo(f"report: {run.path / 'report.html'}")
    _show_next(run.path, bool(entries))


@click.command()
@STUDY
@SET
@JSON
def validate(study: str, sets: tuple[str, ...], as_json: bool) -> None:
    """Check a study file whole, without running anything."""
    import nasx

    loaded = nasx.load(study, sets)
    if as_json:
        emit(loaded.resolved())
    else:
        click.echo(f"{study}: valid ({loaded.name}: {loaded.desc})")


@click.command()
@STUDY
@SET
@JSON
def plan(study: str, sets: tuple[str, ...], as_json: bool) -> None:
    """Say what a study would take: space size, feasible share, duplicates, time."""
    import nasx
    from nasx.plan import plan as plan_of

    found = plan_of(nasx.load(study, sets))
    emit(found.to_json()) if as_json else click.echo(found.text())


@click.command()
@RUN
@STORAGE
@JSON
def status(run: Path, storage: str | None, as_json: bool) -> None:
    """Count the trials of a run by state, and refused candidates by constraint."""
    import nasx
    from nasx.run import status as counts

    found = counts(nasx.Run(run, storage))
    if as_json:
        emit(found)
        return
    click.echo(f"{found['study']} (identity {found['identity']})")
    click.echo("  ".join(f"{state} {n}" for state, n in found["states"].items()))
    if found["rejected"]:
        click.echo("refused by " + ", ".join(f"{c}: {n}" for c, n in found["rejected"].items()))


@click.command()
@RUN
@STORAGE
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="0 takes a free one.")
def watch(run: Path, storage: str | None, port: int) -> None:
    """Serve a live, read-only page about a run on this machine (Ctrl-C ends it)."""
    import nasx
    from dashboards.live import serve

    serve(nasx.Run(run, storage), port)


@click.command()
@RUN
@STORAGE
@click.option("--near", is_flag=True, help="Those behind it that other seeds may put on it.")
@JSON
def front(run: Path, storage: str | None, near: bool, as_json: bool) -> None:
    """Print the Pareto front: complete trials at full fidelity, best score first.

    With replicates, each has its probability of standing on the front; --near lists the
    candidates behind it whose probability is 5 % or more, the likeliest first.
    """
    import nasx
    from nasx.fronttext import front_text, near_text
    from nasx.results.front import contenders

    opened = nasx.Run(run, storage)
    found = contenders(opened) if near else nasx.front(opened)
    if as_json:
        emit(found)
    else:
        click.echo(near_text(found) if near else front_text(found))


@click.command()
@RUN
@STORAGE
@JSON
def rule(run: Path, storage: str | None, as_json: bool) -> None:
    """Fit the scaling rule of a run, or say why there is none."""
    import nasx

    found = nasx.rule(nasx.Run(run, storage))
    if as_json:
        emit(found.to_json())
        return
    from nasx.results.ruletext import sentences

    click.echo(sentences(found))


@click.command()
@RUN
@STORAGE
@click.option("--macs", required=True, metavar="5M,10M", help="MAC budgets, with K, M or G.")
@click.option("--verify", is_flag=True, help="Train each network and the null beside it.")
@click.option("--seeds", type=click.IntRange(1), default=1, metavar="N", help="Seeds to verify.")
@JSON
def scale(
    run: Path, storage: str | None, macs: str, verify: bool, seeds: int, as_json: bool
) -> None:
    """Give the candidates that a run's scaling rule names for MAC budgets.

    --verify says hit or miss; stopped, the same command continues.
    """
    import nasx
    from nasx.printing_scale import budgets, verdicts
    from nasx.results.scale import scale as scale_to

    if seeds > 1 and not verify:
        raise click.UsageError("--seeds says how often --verify trains; give --verify too")
    snapshot = nasx.Run(run, storage).snapshot()
    fitted = nasx.rule(snapshot)
    found = scale_to(fitted, quantities(macs))
    if verify:
        from nasx.verify import verify as train

        found = train(fitted, found, snapshot, seeds=seeds, note=_aside)
    text = budgets(found) + (f"\n{verdicts(found)}" if verify else "")
    emit(found) if as_json else click.echo(text)


@click.command()
@RUN
@STORAGE
@click.option("-o", "--out", metavar="FILE", type=click.Path(path_type=Path), help="HTML file.")
@JSON
def report(run: Path, storage: str | None, out: Path | None, as_json: bool) -> None:
    """Write the report of a run as one HTML file that needs no network."""
    import nasx

    page = nasx.report(nasx.Run(run, storage), out)
    emit({"report": str(page)}) if as_json else click.echo(page)


@click.command()
@RUN
@click.argument("which", metavar="knee|best|tNNNN")
@STORAGE
@click.option("-o", "--out", metavar="DIR", type=click.Path(path_type=Path), help="Folder.")
@click.option("--head", metavar="NAME", help="Only this head of a network that has several.")
@JSON
def export(
    run: Path, which: str, storage: str | None, out: Path | None, head: str | None, as_json: bool
) -> None:
    """Write a checked bundle of one network: ONNX, .pt2, weights, plain PyTorch."""
    import nasx

    folder = nasx.export(nasx.Run(run, storage), which, out, head)
    emit({"bundle": str(folder)}) if as_json else click.echo(folder)


def _aside(line: str) -> None:
    """Say how far a long command is, beside its result."""
    click.echo(line, err=True)


def _show_next(run: Path, front: bool) -> None:
    able = {"rule": (run / "rule.json").is_file(), "export": front}
    commands = {"rule": f"nasx rule {run}", "export": f"nasx export {run} knee"}
    following = [commands[name] for name, can in able.items() if can]
    if following:
        click.echo(f"next:   {' | '.join(following)}")
