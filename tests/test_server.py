"""The record on a real PostgreSQL server: nothing lost, one driver, no password left behind."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nasx.cli import run as command
from nasx.errors import NasxError
from nasx.run import Run, status
from nasx.search.evaluate import Report, Ticket
from nasx.storage import StudyStore, open_store
from nasx.trial import State
from postgres import PASSWORD, Postgres, binaries
from simulated import Simulated
from test_engine import ran, study

pytest.importorskip("psycopg", reason="the PostgreSQL driver psycopg is not installed")
pytestmark = pytest.mark.skipif(binaries() is None, reason="PostgreSQL is not installed (initdb)")


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    folder = binaries()
    assert folder is not None
    made = Postgres(folder)
    made.start()
    try:
        yield made
    finally:
        with contextlib.suppress(AssertionError):  # a test may have stopped it
            made.stop()
        made.remove()


def secrets_in(folder: Path) -> list[Path]:
    files = [f for f in folder.rglob("*") if f.is_file()]
    assert files
    return [f for f in files if PASSWORD.encode() in f.read_bytes()]


def test_a_search_continues_and_extends_and_leaves_no_password(server, tmp_path, capsys):
    asked, journal = study(9, desc="continues"), tmp_path / "journal"
    first = ran(tmp_path / "run", asked, Simulated(journal=journal), storage=server.url)
    assert [t.number for t in first.trials] == list(range(9))
    assert not (tmp_path / "run" / "record.sqlite3").exists()
    lines = journal.read_text()
    again = ran(tmp_path / "run", asked, Simulated(journal=journal), storage=server.url)
    assert (again.trials, journal.read_text()) == (first.trials, lines)
    more = ran(tmp_path / "run", asked, Simulated(), storage=server.url, add_trials=3)
    assert len(more.trials) == 12
    for name in ("status", "front", "doctor"):
        command([name, str(tmp_path / "run"), "--storage", server.url])
    out, err = capsys.readouterr()
    assert "STOPPED 8  COMPLETE 4" in out
    assert "trials       stopped 8, complete 4" in out
    assert PASSWORD not in out + err
    assert secrets_in(tmp_path) == []


def test_a_run_keeps_to_its_database_and_a_record_to_its_folder(server, tmp_path):
    asked = study(4, search={"seed": 1})
    ran(tmp_path / "run", asked, storage=server.url)
    with pytest.raises(NasxError, match="give the --storage that it was begun with"):
        ran(tmp_path / "run", asked)
    with pytest.raises(NasxError, match=rf"with its trials in .*{tmp_path}/run; continue there"):
        ran(tmp_path / "other", asked, storage=server.url)
    assert {f.name for f in (tmp_path / "other").iterdir()} == {"lock"}
    ran(tmp_path / "here", asked)
    with pytest.raises(NasxError, match=r"in record.sqlite3; leave --storage out"):
        ran(tmp_path / "here", asked, storage=server.url)


def store(server: Postgres, seed: int) -> StudyStore:
    return open_store(Path(), study(2, search={"seed": seed}), "x", server.url, create=True)


def test_a_trial_longer_than_the_silence_allowed_keeps_its_driver_safe(server, monkeypatch):
    monkeypatch.setattr("nasx.tenure.HEARTBEAT", 0.1)
    monkeypatch.setattr("nasx.tenure.SILENT", 0.6)
    with contextlib.closing(store(server, 2)) as first:
        first.take()
        time.sleep(1.2)
        with (
            contextlib.closing(store(server, 2)) as second,
            pytest.raises(NasxError, match=rf"in use .* \(process {os.getpid()}\); wait for it"),
        ):
            second.take()
        first.demand_tenure()  # the refused one gave nothing of ours back
        assert first.attribute("driver") is not None
    with contextlib.closing(store(server, 2)) as third:
        third.take()  # given back


def test_a_driver_that_slept_does_not_write_over_its_successor(server, monkeypatch):
    monkeypatch.setattr("nasx.tenure.SILENT", 0.5)
    with (
        contextlib.closing(store(server, 3)) as sleeper,
        contextlib.closing(store(server, 3)) as heir,
    ):
        sleeper.take()
        time.sleep(0.6)
        heir.take()
        with pytest.raises(NasxError, match="was taken by another nasx search"):
            sleeper.demand_tenure()
        sleeper.close()
        heir.demand_tenure()
        assert heir.attribute("driver") is not None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"password": "wrong-pw"}, "password authentication failed .*; check user and password"),
        ({"database": "nowhere"}, 'database "nowhere" does not exist; create it'),
    ],
)
def test_a_refused_connection_is_one_line_and_leaves_no_run(server, tmp_path, change, said):
    with pytest.raises(NasxError, match=said) as refused:
        ran(tmp_path / "run", study(2), storage=server.url_of(**change))
    assert "\n" not in str(refused.value)
    assert "wrong-pw" not in str(refused.value)
    assert {f.name for f in (tmp_path / "run").iterdir()} == {"lock"}


DRIVER = """
import sys
from pathlib import Path
from test_engine import study
from simulated import Simulated
from nasx.search.search import search
run = Path(sys.argv[1])
search(study(6, search={"seed": 4}), run / "run", storage=sys.argv[2],
       evaluate=Simulated(seconds=0.3, journal=run / "journal"))
"""


def test_a_killed_driver_is_followed_at_once_and_nothing_is_lost(server, tmp_path):
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(here.parent)])}
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path), server.url], env=environment
    )
    journal = tmp_path / "journal"
    while driver.poll() is None and (
        not journal.exists() or journal.read_text().count("finish") < 3
    ):
        time.sleep(0.01)
    driver.send_signal(signal.SIGKILL)
    assert driver.wait() == -signal.SIGKILL
    before = Run(tmp_path / "run", server.url).snapshot()
    assert len(before.trials) >= 2
    asked = study(6, search={"seed": 4})
    found = ran(tmp_path / "run", asked, Simulated(journal=journal), storage=server.url)
    assert [t.key for t in found.trials[: len(before.trials)]] == [t.key for t in before.trials]
    assert len(found.trials) == 6
    assert {t.state for t in found.trials} == {State.COMPLETE, State.STOPPED}
    finished = [li.split()[1:3] for li in journal.read_text().splitlines() if "finish" in li]
    assert len({tuple(f) for f in finished}) >= len(finished) - 1  # only the killed segment


class Cutting(Simulated):
    """Stops the server while a trial runs."""

    def __init__(self, server: Postgres) -> None:
        super().__init__()
        self.server = server

    def run(self, ticket: Ticket) -> Iterator[Report]:
        if ticket.number == 3 and ticket.rung == 0:
            self.server.stop()
        yield from super().run(ticket)


def test_a_server_that_goes_away_stops_the_search_in_one_line(server, tmp_path):
    asked = study(6, search={"seed": 5})
    with pytest.raises(NasxError, match=r"Connection refused.*; nothing finished is lost") as said:
        ran(tmp_path, asked, Cutting(server), storage=server.url)
    assert "\n" not in str(said.value)
    with pytest.raises(NasxError, match=r"cannot be reached: .*Connection refused; check the URL"):
        Run(tmp_path, server.url).snapshot()
    server.start()
    found = ran(tmp_path, asked, storage=server.url)
    assert len(found.trials) == 6
    assert sum(status(found)["states"].values()) == status(found)["states"]["COMPLETE"] + 4
    assert secrets_in(tmp_path) == []
