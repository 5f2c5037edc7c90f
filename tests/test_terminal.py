"""What a search shows: one line each in logs, one block on a terminal, nothing on stdout."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from made_record import study, trial
from nasx.terminal import (
    Display,
    LiveDisplay,
    PlainDisplay,
    Progress,
    SilentDisplay,
    display_for,
    spread,
    status,
)
from nasx.trial import State

COUNTS = {State.RUNNING: 2, State.COMPLETE: 12, State.FAILED: 1, State.STOPPED: 24}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def progress(**changes: object) -> Progress:
    order = (4, 0, 8, 1, 5, 2, 7, 3, 6)  # the record's order says nothing about the score
    front = [(trial(n, 90 - n, 8e6 - n), {"top1": 90.0 - n, "macs": 8e6}) for n in order]
    fields: dict = {
        "trials": 48,
        "counts": COUNTS,
        "rejected": 3,
        "front": front,
        "hypervolume": [0.1, 0.5, 0.7134],
        "seconds": 30.0,
        "remaining": 80.0,
    }
    return Progress(**{**fields, **changes})


def play(display: Display) -> None:
    display.begin(study(), Path("runs/made"), 1)
    display.trial(trial(3, 81.25, 2e6), progress())
    display.trial(
        trial(4, state=State.FAILED, rungs=0, reason="line 1\n\x1b[31mline 2"), progress()
    )
    display.note("quiet pass: 11 networks")
    display.end("done")


def test_the_status_line() -> None:
    assert status(progress()) == (
        "trials 37/48 · 2 running · 12 full · 24 stopped · 1 failed · 3 rejected"
        " | ETA 1:20 | HV 0.713 ▁▆█"
    )
    assert status(Progress(trials=48)) == "trials 0/48"
    assert status(progress(hypervolume=[2.04e7])).endswith("HV 20.4 M ▁")


def test_plain_is_one_line_for_each_event_without_colours() -> None:
    stream = io.StringIO()
    play(PlainDisplay(stream))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 6
    assert "\x1b" not in stream.getvalue()
    assert lines[0].endswith("record in runs/made, continued (1 earlier start)")
    assert lines[1] == (
        "[37/48] t0003 full      9000 samples  top1 81.2 %  macs 2.00 M  latency_ms 0.500 ms"
    )
    assert "line 1  [31mline 2" in lines[2]
    assert lines[-1] == "done"


def test_the_block_shows_the_front_from_end_to_end() -> None:
    stream = Terminal()
    display = LiveDisplay(stream)
    play(display)
    text = stream.getvalue()
    assert "trials 37/48" in text
    assert "t0000" in text
    assert "t0008" in text
    assert text.index("t0000") < text.index("t0002") < text.index("t0008")
    assert "t0001" not in text  # five of nine rows
    assert "quiet pass: 11 networks" in text
    assert text.rstrip().endswith("done")
    assert display.live is None


def test_a_block_without_a_front_is_the_status_line() -> None:
    stream = Terminal()
    display = LiveDisplay(stream)
    display.begin(study(), Path("runs/made"), 0)
    display.trial(trial(0), progress(front=[]))
    display.end("stopped")
    assert "trials 37/48" in stream.getvalue()


def test_markup_in_a_reason_is_text() -> None:
    stream = Terminal()
    display = LiveDisplay(stream)
    display.note("[bold]not bold[/bold] [/oops]")
    assert "[bold]not bold[/bold] [/oops]" in stream.getvalue()


def test_five_rows_run_from_the_first_to_the_last() -> None:
    rows = [(trial(n), {}) for n in range(12)]
    assert [t.number for t, _ in spread(rows, 5)] == [0, 3, 6, 8, 11]
    assert spread(rows[:3], 5) == rows[:3]


def test_silence_and_nothing_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    play(SilentDisplay())
    assert capsys.readouterr() == ("", "")
    play(PlainDisplay())
    out, err = capsys.readouterr()
    assert out == ""
    assert "t0003" in err


@pytest.mark.parametrize(
    ("stream", "ci", "term", "kind"),
    [
        (Terminal(), "", "xterm", LiveDisplay),
        (Terminal(), "true", "xterm", PlainDisplay),
        (Terminal(), "", "dumb", PlainDisplay),
        (io.StringIO(), "", "xterm", PlainDisplay),
    ],
)
def test_the_display_fits_the_stream(
    stream: io.StringIO, ci: str, term: str, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setenv("TERM", term)
    assert type(display_for(stream)) is kind
