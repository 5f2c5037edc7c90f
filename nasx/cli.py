"""The command line: a lazy group, and the edge where every error becomes one line.

Commands live in `nasx.commands` and `nasx.commands_*`, thin skins over the Python API. Nothing
heavy is imported before a command needs it: `nasx --help` loads click alone.
"""

from __future__ import annotations

import importlib
import os
import shlex
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import click

from nasx.errors import Interrupted, NasxError

COMMANDS = {
    "search": "nasx.commands",
    "validate": "nasx.commands",
    "plan": "nasx.commands",
    "status": "nasx.commands",
    "watch": "nasx.commands",
    "front": "nasx.commands",
    "rule": "nasx.commands",
    "scale": "nasx.commands",
    "compare": "nasx.commands_compare",
    "diff": "nasx.commands_compare",
    "steps": "nasx.commands_look",
    "report": "nasx.commands",
    "export": "nasx.commands",
    "claim": "nasx.commands_claim",
    "cost": "nasx.commands_look",
    "measure": "nasx.commands_look",
    "spaces": "nasx.commands_look",
    "studies": "nasx.commands_look",
    "doctor": "nasx.commands_look",
}


class _Lazy(click.Group):
    """A group whose commands are imported when they are asked for, in the order of use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        found: click.Command = getattr(importlib.import_module(COMMANDS[cmd_name]), cmd_name)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Refuse an unknown command with the nearest one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from nasx.nearest import hint

            raise click.UsageError(f"there is no command '{args[0]}'; {hint(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="nasx", message="nasx %(version)s")
def group() -> None:
    """Search neural architectures, fit their scaling rule, and export what you choose.

    \b
    nasx search tinynet          run a shipped study (or continue it)
    nasx front runs/tinynet      its Pareto front
    nasx export runs/tinynet knee
    """
    _listen()


def main() -> None:
    """Run the command line and exit with its code."""
    sys.exit(run(sys.argv[1:]))


def run(args: Sequence[str]) -> int:
    """Run one command line; return its exit code, every error told in one line on stderr."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # other libraries' advice to programmers
    try:
        code = group.main(list(args), prog_name="nasx", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except NasxError as error:
        click.echo(f"nasx: {error}", err=True)
        if isinstance(error, Interrupted):
            click.echo(f"continue with: nasx {_shown(args)}", err=True)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("nasx: interrupted", err=True)
        return 130
    except BrokenPipeError:  # the reader of our output has gone; so do we
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        click.echo(f"nasx: {_unexpected(error, args)}", err=True)
        return 1
    return code if isinstance(code, int) else 0


def _listen() -> None:
    """Show what the package itself logs (such as whose code it executes) on stderr."""
    import logging

    class Notices(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            click.echo(f"nasx: {record.getMessage()}", err=True)

    log = logging.getLogger("nasx")
    if not log.handlers:
        log.addHandler(Notices())
        log.setLevel(logging.INFO)
        log.propagate = False


def _unexpected(error: Exception, args: Sequence[str]) -> str:
    """Keep the whole traceback in a log and return one line about it."""
    import errno
    import traceback

    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return (
            f"the disk is full ({error.filename or 'a write failed'}): free some space and run "
            "the same command again; nothing in the record is lost"
        )
    if isinstance(error, ModuleNotFoundError):
        what = f"the module {error.name} is not installed: install nasx again"
    else:
        what = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if Path(f.filename).is_relative_to(Path(__file__).parent.parent)]
    frame = (own or frames)[-1]
    place = f"{Path(frame.filename).parent.name}/{Path(frame.filename).name}:{frame.lineno}"
    return f"{what} (at {place}){_logged(error, args)}"


def _shown(args: Sequence[str]) -> str:
    """Return the command line as it may be shown: without the password of a database URL."""
    if any("://" in word for word in args):
        from nasx.database import shown

        args = [shown(word) for word in args]
    return shlex.join(args)


def _logged(error: Exception, args: Sequence[str]) -> str:
    """Append the traceback to the run's log, or to the user's cache; say where."""
    import json
    import time
    import traceback

    from nasx.files import cache_folder

    run = next((Path(a) for a in args if (Path(a) / "resolved.yaml").is_file()), None)
    row = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "event": "error",
        "command": _shown(args),
        "traceback": "".join(traceback.format_exception(error)),
    }
    for folder in (run, cache_folder()):
        if folder is None:
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / "log.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
        except OSError:
            continue
        return f"; the whole trace is in {folder / 'log.jsonl'}"
    return ""
