"""Commands that look at things: costs, latency, spaces, studies, this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click

from nasx.commands import JSON, RUN, STORAGE
from nasx.errors import SpaceError
from nasx.printing import assignments, emit, first_sentence, table

RUNTIMES = ("onnxruntime", "aot", "eager", "compile", "cuda")  # said here: --help needs no torch
ENERGY = ("arith", "arith+mem")
SENTENCE = 200  # characters of a cell that holds a sentence


@click.command()
@click.argument("space", metavar="SPACE")
@click.option("--published", metavar="NAME", help="The paper's point of this name.")
@click.option("--set", "sets", multiple=True, metavar="field=v", help="A field's value.")
@click.option("--task", metavar="T", help="Count at this task's input.")
@click.option("--energy", type=click.Choice(ENERGY), default="arith", help="Model of energy.")
@click.option("--check", is_flag=True, help="Beside other counters; all published points.")
@JSON
def cost(
    space: str,
    published: str | None,
    sets: tuple[str, ...],
    task: str | None,
    energy: Literal["arith", "arith+mem"],
    check: bool,
    as_json: bool,
) -> None:
    """Count what a candidate costs: MACs, parameters, bytes, layer by layer."""
    import nasx
    from nasx.costtext import card_text

    if check:
        _check_cost(space, published, assignments(sets), task, as_json)
        return
    values = assignments(sets)
    card = nasx.cost(space, published=published, values=values, task=task, energy=energy)
    emit(card.to_json()) if as_json else click.echo(card_text(card))


@click.command()
@click.argument("target", metavar="RUN|MODEL.onnx")
@click.option("--runtime", type=click.Choice(RUNTIMES), help="Who runs it.")
@click.option("--device", metavar="D", help="cpu, cuda or cuda:N.")
@click.option("--batch", type=click.IntRange(1), help="Samples per call.")
@click.option("--threads", type=click.IntRange(1), help="Threads per call.")
@click.option("--via", metavar="CMD", help='Time elsewhere, e.g. "ssh board python3 -".')
@STORAGE
@JSON
def measure(
    target: str,
    runtime: str | None,
    device: str | None,
    batch: int | None,
    threads: int | None,
    via: str | None,
    storage: str | None,
    as_json: bool,
) -> None:
    """Measure latency: of a run's front as its study says, or of one ONNX file.

    Networks are visited in random order, beside a calibrator; the calibrated median counts.
    """
    import nasx

    run = nasx.Run(target, storage) if storage else target
    rows = nasx.measure(run, runtime=runtime, device=device, batch=batch, threads=threads, via=via)
    emit(rows) if as_json else click.echo(table(rows))


@click.command()
@RUN
@click.argument("which", metavar="[knee|best|smallest|tNNNN]", required=False)
@STORAGE
@JSON
def steps(run: Path, which: str | None, storage: str | None, as_json: bool) -> None:
    """Show where fewer channels of a part take no less time, around one network of the front.

    By default what the search's final pass kept, of the knee; a network that you name is timed now
    unless it is that one.
    """
    import nasx
    from nasx.results.scanned import rows, sentences
    from nasx.results.scanned import steps as steps_of

    def note(line: str) -> None:
        click.echo(line, err=True)

    found = steps_of(nasx.Run(run, storage), which, note)
    if as_json:
        emit(found)
    else:
        click.echo("\n".join([table(rows(found)), *sentences(found)]))


@click.command()
@click.argument("name", metavar="[NAME]", required=False)
@click.option("--check", metavar="FILE.py:Class", help="Hold a space to the whole contract.")
@JSON
def spaces(name: str | None, check: str | None, as_json: bool) -> None:
    """List the search spaces, describe one, or check one of your own."""
    from nasx import registry
    from nasx.describe import describe

    if check:
        _check_contract(check, as_json)
        return
    found = [registry.space(name)] if name else list(registry.spaces().values())
    rows = [describe(space) for space in found]
    if as_json:
        emit(rows)
    elif name:
        _show_space(rows[0])
    else:
        click.echo(table([{"name": r["name"], "paper": r["paper"], "tasks": r["tasks"],
                           "fields": list(r["fields"])} for r in rows]))  # fmt: skip


@click.command()
@JSON
def studies(as_json: bool) -> None:
    """List the shipped studies with the question each asks."""
    import yaml

    from nasx import registry

    rows = []
    for name, file in registry.studies().items():
        text = yaml.safe_load(file.read_text(encoding="utf-8"))
        rows.append({"name": name, "desc": text["desc"], "space": text["space"]})
    emit(rows) if as_json else click.echo(table(rows, SENTENCE) or "no study is shipped")


@click.command()
@click.argument("run", metavar="[RUN]", required=False, type=click.Path(path_type=Path))
@click.option("--deep", is_flag=True, help="Also test the runtimes that compile (a minute).")
@STORAGE
@JSON
def doctor(run: Path | None, deep: bool, storage: str | None, as_json: bool) -> int:
    """Look over this machine and test its probes, or look over a run folder."""
    from nasx.doctor import examine_machine
    from nasx.doctor_run import examine_run

    findings = examine_run(run, storage) if run else examine_machine(deep)
    if as_json:
        emit([f.to_json() for f in findings])
    else:
        click.echo("\n".join(f.text() for f in findings))
    return 1 if any(f.remedy for f in findings) else 0


def _check_cost(
    space: str, published: str | None, values: dict[str, Any], task: str | None, as_json: bool
) -> None:
    """Other counters beside ours; and the published points where no candidate was named."""
    from nasx import registry
    from nasx.cost.api import check
    from nasx.costtext import check_text
    from nasx.published import compare_published

    tallies = check(space, published=published, values=values, task=task)
    rows = [] if published or values else compare_published(registry.space(space))
    if as_json:
        emit({"counters": [t.to_json() for t in tallies], "published": rows})
    else:
        click.echo("\n\n".join([check_text(tallies), *([table(rows)] if rows else [])]))
    wrong = [r["name"] for r in rows if not r["agrees"]]
    if wrong:
        raise SpaceError(f"{space}: published numbers are not met at {', '.join(wrong)}")


def _check_contract(reference: str, as_json: bool) -> None:
    from nasx import registry
    from nasx.contract import check

    faults = check(registry.space(reference))
    if as_json:
        emit([vars(fault) for fault in faults])
    else:
        click.echo("\n".join(map(str, faults)) or f"{reference}: keeps the whole contract")
    if faults:
        some = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise SpaceError(f"{reference}: {some}: mend, then check again")


def _show_space(row: dict[str, Any]) -> None:
    click.echo(f"{row['name']}  {row['paper']}  for {', '.join(row['tasks'])}")
    click.echo(first_sentence(row["about"]))
    for sentence in row["cautions"]:
        click.echo(f"note: {sentence}")
    click.echo(table([{"field": k, **v} for k, v in row["fields"].items()]))
    if row["published"]:
        keep = ("name", "params", "macs", "adds", "tolerance", "source")
        click.echo(table([{k: p[k] for k in keep} for p in row["published"]], SENTENCE))
