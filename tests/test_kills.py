"""Kill -9 and Ctrl-C at any moment: nothing is lost, nothing runs twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nasx.errors import Interrupted
from nasx.run import Run
from nasx.trial import State
from simulated import Simulated
from test_engine import ran, study

DRIVER = """
import sys
from pathlib import Path
from test_engine import study
from simulated import Simulated
from nasx.search.search import search
search(study(24, rungs=2), Path(sys.argv[1]) / "run",
       evaluate=Simulated(seconds=0.12, journal=Path(sys.argv[1]) / "journal"))
"""


def attempts(run: Path) -> dict[tuple[int, int], str]:
    """Return whose result each finished segment of a run keeps."""
    return {
        (outcome["number"], outcome["rung"]): outcome["attempt"]
        for path in run.glob("trials/*/result.json")
        for outcome in json.loads(path.read_text())["outcomes"]
    }


def test_ten_kills_lose_nothing_and_run_nothing_twice(tmp_path: Path) -> None:
    """Kill -9 the driver at ten random moments; the same command ends the study."""
    chance = random.Random(int(time.time()))
    here = str(Path(__file__).parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([here, str(Path(here).parent)])}
    command = [sys.executable, "-c", DRIVER, str(tmp_path)]
    journal = tmp_path / "journal"
    kills = 0
    acknowledged: dict[int, str] = {}
    results: dict[tuple[int, int], str] = {}  # (trial, rung) -> the attempt whose result is kept
    while kills < 10:
        driver = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
        before = journal.stat().st_size if journal.exists() else 0
        while driver.poll() is None and (not journal.exists() or journal.stat().st_size == before):
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.25))
        if driver.poll() is None:
            driver.send_signal(signal.SIGKILL)
            kills += 1
        _, said = driver.communicate()
        assert driver.returncode in (0, -signal.SIGKILL), said.decode()
        for trial in Run(tmp_path / "run").snapshot().trials:
            if trial.number in acknowledged:
                assert trial.key == acknowledged[trial.number]
            acknowledged[trial.number] = trial.key
        on_disk = attempts(tmp_path / "run")
        assert results.items() <= on_disk.items(), "a finished segment ran again"
        results = on_disk
        assert driver.returncode != 0, "the study ended before ten kills: make it longer"
    assert subprocess.run(command, env=environment, check=False).returncode == 0
    found = Run(tmp_path / "run").snapshot()
    assert len(found.trials) == 24
    assert [t.number for t in found.trials] == list(range(24))
    assert {t.state for t in found.trials} == {State.COMPLETE, State.STOPPED}
    assert results.items() <= attempts(tmp_path / "run").items()
    reached: dict[tuple[str, str], int] = {}
    for what, number, rung, samples, _ in map(str.split, journal.read_text().splitlines()):
        # A kill between the last step and result.json leaves nothing to train, only to score.
        assert what == "finish" or int(samples) >= reached.get((number, rung), 0)
        if what == "finish":
            reached[number, rung] = int(samples)
    assert kills == 10


STOPPED = """
import os, signal, sys
from pathlib import Path
from test_engine import study
from simulated import Simulated
from nasx.errors import Interrupted
from nasx.search.search import search
from nasx.terminal import PlainDisplay


class Impatient(PlainDisplay):
    def trial(self, trial, progress):
        super().trial(trial, progress)
        if progress.done == 3:
            for _ in range(int(sys.argv[2])):
                os.kill(os.getpid(), signal.SIGINT)


try:
    search(study(24, rungs=1), Path(sys.argv[1]), evaluate=Simulated(), display=Impatient())
except Interrupted as error:
    print("nasx:", error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


@pytest.mark.parametrize(
    ("presses", "last"),
    [
        (1, "nasx: stopped: 3 of 24 trials are in the record"),
        (2, "left at once: the same command continues from the record"),
    ],
)
def test_ctrl_c_says_what_is_kept(tmp_path: Path, presses: int, last: str) -> None:
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", STOPPED, str(tmp_path / "run"), str(presses)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([here, str(Path(here).parent)])},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stderr.splitlines()
    assert done.returncode == 130, done.stderr
    assert "stopping: the running trials are being saved" in done.stderr
    assert lines[-1] == last
    assert len(Run(tmp_path / "run").snapshot().trials) == 3


def test_ctrl_c_outside_the_trials_is_an_interruption_too(tmp_path: Path) -> None:
    class Pressed(Simulated):
        def prepare(self) -> None:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="every finished trial is in the record"):
        ran(tmp_path, study(2), Pressed())
