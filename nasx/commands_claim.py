"""The command about a claim: run it to its verdict, and write the result down."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from nasx.commands import JSON, SET
from nasx.errors import MissingData
from nasx.printing import emit, table

FILE = click.Path(path_type=Path, dir_okay=False)
WIDE = 200  # characters of a cell that holds a sentence


@click.command()
@click.argument("file", metavar="[FILE]", required=False)
@click.option("--out", metavar="DIR", type=click.Path(path_type=Path), help="The claim's folder.")
@SET
@click.option("--front", metavar="RUN", help="Say how the axes follow c on this search's front.")
@click.option("--address", metavar="RAY", help="Join this Ray cluster, e.g. auto.")
@click.option("--csv", metavar="FILE", type=FILE, help="Write the comparison as CSV.")
@click.option("--latex", metavar="FILE", type=FILE, help="Write it as a LaTeX tabular.")
@click.option("--markdown", metavar="FILE", type=FILE, help="Write the whole result as a page.")
@click.option("--skip-missing", is_flag=True, help="Pass over a claim whose data are not here.")
@JSON
def claim(
    file: str | None,
    out: Path | None,
    sets: tuple[str, ...],
    front: str | None,
    address: str | None,
    csv: Path | None,
    latex: Path | None,
    markdown: Path | None,
    skip_missing: bool,
    as_json: bool,
) -> None:
    """Run a claim study to its verdict, or continue it; without FILE, list the shipped ones.

    FILE is a claim file or the name of a shipped claim. The same command continues.
    """
    from nasx.claims import pages, reading
    from nasx.claims.run import run_claim
    from nasx.terminal import display_for

    if file is None:
        emit(reading.listed()) if as_json else click.echo(table(reading.listed(), WIDE))
        return
    try:
        asked = reading.load(file, sets)
    except MissingData as error:
        if not skip_missing:
            raise
        click.echo(f"nasx: passed over: {error}", err=True)
        return
    found = run_claim(asked, out, display=display_for(sys.stderr), address=address, front=front,
                      command=_command(file, sets, front))  # fmt: skip
    pages.write(found, {"csv": csv, "latex": latex, "markdown": markdown})
    emit(found.to_json()) if as_json else click.echo(pages.text(found))


def _command(file: str, sets: tuple[str, ...], front: str | None) -> str:
    """Return the command line as far as it decides the result."""
    words = ["nasx", "claim", file, *(word for text in sets for word in ("--set", text))]
    return shlex.join([*words, "--front", front] if front else words)
