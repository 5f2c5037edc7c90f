"""Commands about several spaces or runs: compare at one accuracy, diff of two fronts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nasx.commands import JSON, STORAGE
from nasx.printing import emit

if TYPE_CHECKING:
    from nasx.run import Run

WORSE = 6  # the exit code of a front that got worse


@click.command()
@click.argument("a", metavar="A", type=click.Path(path_type=Path))
@click.argument("b", metavar="[B]", required=False, type=click.Path(path_type=Path))
@click.option("--at", metavar="AXIS=VALUE", help="The score to reach, e.g. top1=.9.")
@STORAGE
@JSON
def compare(a: Path, b: Path | None, at: str | None, storage: str | None, as_json: bool) -> None:
    """Find the cheapest candidate of each space at one accuracy, with intervals.

    A and B are run folders. Without --at, the highest score that every space reaches beyond doubt.
    """
    from nasx.results.compare import compare as compared
    from nasx.results.comparetext import cheapest_text

    found = compared(_opened(a, storage), _opened(b, storage) if b else None, at=at)
    emit(found.to_json()) if as_json else click.echo(cheapest_text(found))


@click.command()
@click.argument("a", metavar="A", type=click.Path(path_type=Path))
@click.argument("b", metavar="B", type=click.Path(path_type=Path))
@STORAGE
@JSON
def diff(a: Path, b: Path, storage: str | None, as_json: bool) -> int:
    """Say whether the front moved from run A to run B; exit with 6 if it got worse.

    Hypervolume difference with a 95 % interval, points gained and lost, cost spent.
    """
    from nasx.results.comparetext import difference_text
    from nasx.results.diff import diff as difference

    found = difference(_opened(a, storage), _opened(b, storage))
    emit(found.to_json()) if as_json else click.echo(difference_text(found))
    return WORSE if found.verdict == "worse" else 0


def _opened(path: Path, storage: str | None) -> Run:
    """Open a run; of two, one may lie on the server and the other in its folder."""
    import nasx

    return nasx.Run(path, None if (path / "record.sqlite3").is_file() else storage)
