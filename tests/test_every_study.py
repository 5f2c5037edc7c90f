"""Every shipped study is valid, can be planned, and runs two trials at 1 % of its budget."""

import json
from pathlib import Path

import pytest

import nasx
import smallphotos
from nasx import registry
from nasx.errors import NasxError
from nasx.plan import plan
from nasx.run import status
from nasx.study import Study


def small(name: str, folder: Path) -> Study:
    study = nasx.load(name)
    spec = {"name": study.task} if isinstance(study.task, str) else dict(study.task)
    if spec["name"] == "photos":
        spec["path"] = smallphotos.write(folder)
    full = max(100, study.fidelity.full // 100)
    return nasx.load(
        name,
        [
            "search.trials=2", "search.sampler=random", "resources.executor=inline",
            "final.neighbours=0", f"fidelity.full={full}",
            f"fidelity.rungs={min(2, study.fidelity.rungs)}",
            f"task={json.dumps(spec)}",
        ],
    )  # fmt: skip


@pytest.mark.parametrize("name", registry.studies())
def test_study_is_valid_and_says_what_it_is_for(name):
    study = nasx.load(name)
    assert study.name == name.rpartition("/")[2]
    assert study.desc.strip().endswith((".", "?"))
    text = registry.studies()[name].read_text()
    first = next(line for line in text.splitlines() if line and not line.startswith("#"))
    assert first.startswith("desc:")


@pytest.mark.parametrize("name", registry.studies())
def test_study_can_be_planned_and_run(name, tmp_path):
    study = small(name, tmp_path / "photos")
    planned = plan(study, drawn=20, seconds=1.0, steps=2)
    assert planned.seconds > 0
    assert all(s.feasible > 0 for s in planned.spaces)
    run = nasx.search(study, tmp_path / "run")
    counts = status(run)["states"]
    assert counts["FAILED"] == 0
    assert sum(counts.values()) >= 2
    for entry in nasx.front(run):
        assert set(entry["objectives"]) == set(study.objectives)
    with pytest.raises(NasxError, match="holds another study"):
        nasx.search(study.model_copy(update={"fix": {"other": 1}}), tmp_path / "run")
