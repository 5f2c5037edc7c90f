import shutil
from pathlib import Path

import pytest

import nasx
from nasx.doctor import examine_machine
from nasx.doctor_run import examine_run
from nasx.errors import NasxError
from nasx.files import locked
from nasx.study import Study
from simulated import Simulated


@pytest.fixture
def run(tmp_path):
    study = Study.model_validate(
        {
            "name": "hill", "desc": "d", "task": "none",
            "space": f"{Path(__file__).parent}/simulated.py:Hill",
            "objectives": {"top1": "maximize", "macs": "minimize"},
            "fidelity": {"full": 90, "rungs": 1},
            "search": {"trials": 4, "sampler": "random"},
            "resources": {"executor": "inline"},
        }
    )  # fmt: skip
    return nasx.search(study, tmp_path / "run", evaluate=Simulated(faults={2: "raise"})).path


def states(run):
    return {f.what: f for f in examine_run(run)}


def test_this_machine_is_described():
    found = {f.what: f for f in examine_machine()}
    assert found["torch"].state.startswith("2.")
    assert "GiB free" in found["memory"].state
    assert "tinynet" in found["spaces"].state
    assert not found["python"].remedy


def test_a_run_is_looked_over(run):
    found = states(run)
    assert found["lock"].state == "free"
    assert found["trials"].state == "complete 3, failed 1"
    assert "RuntimeError" in found["failed"].state
    assert "missing for 3 (t0000" in found["weights"].state  # a simulation trains nothing


def test_a_held_lock_is_seen_and_left_alone(run):
    with locked(run / "lock", "busy"):
        assert states(run)["lock"].state.startswith("held: a search is running (process ")
    assert states(run)["lock"].state == "free"


def test_missing_files_and_records_are_told(run, tmp_path):
    (run / "provenance.json").unlink()
    assert "missing provenance.json" in states(run)["files"].state
    copy = shutil.copytree(run, tmp_path / "copy")
    (copy / "record.sqlite3").write_bytes(b"not a database at all" * 100)
    assert states(copy)["record"].state == "cannot be read"
    assert "is not a database" in states(copy)["record"].remedy
    (copy / "record.sqlite3").unlink()
    assert "the record is not here" in states(copy)["record"].remedy
    with pytest.raises(NasxError, match="no run here"):
        examine_run(tmp_path)
