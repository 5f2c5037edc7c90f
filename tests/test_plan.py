from dataclasses import replace
from pathlib import Path

import pytest

import nasx
from nasx.errors import NothingFeasible
from nasx.plan import count_slots, plan

HERE = Path(__file__).parent


@pytest.fixture
def study(tmp_path):
    file = tmp_path / "net.yaml"
    file.write_text(
        f"desc: Which net?\nspace: {HERE.parent}/docs/my_net.py:MyNet\n"
        f"task: {HERE}/tiny.py:TinyDigits\n"
        "objectives: {top1: maximize, macs: minimize}\n"
        'constraints: {params: "<= 2.0e4"}\n'
        "fidelity: {full: 900, factor: 3, rungs: 3}\n"
        "domains: {width: [8, 24]}\nresources: {executor: inline}\n"
    )
    return nasx.load(file)


def test_a_plan_counts_and_times(study):
    found = plan(study, drawn=40, seconds=2.0, steps=4)
    (space,) = found.spaces
    assert space.size == 3**3 * 3 * 2  # widths 8, 16, 24; blocks 1 to 3; two activations
    assert 0 < space.feasible < 1
    assert set(space.refused) == {"params"}
    assert 0 < space.duplicates < 0.5
    assert found.rungs == (100, 300, 900)
    assert found.samples_per_trial == pytest.approx(100 + 200 / 3 + 600 / 9)
    assert found.seconds == pytest.approx(found.seconds_per_trial * 48)
    assert found.to_json()["spaces"][0]["macs"][0] <= space.macs[2]
    assert "feasible" in found.text()
    assert len({row["macs"] for row in found.timed}) >= 2
    assert found.again == 0
    assert "front member" not in found.text()
    final = study.final.model_copy(update={"seeds": 3, "controls": "front"})
    assert final.again() == 2 + 3
    more = replace(found, again=final.again())
    assert "5 more full trainings of each front member" in more.text()


def test_nothing_feasible_is_said(study):
    none = study.model_copy(update={"constraints": {"params": "<= 10"}})
    with pytest.raises(NothingFeasible, match="no drawn candidate is feasible"):
        plan(none, drawn=6, seconds=1.0, steps=1)


def test_slots_follow_the_resources(study, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(6)))
    assert count_slots(study) == 1
    for cpu, slots in ((1, 6), (2, 3), (0.5, 12)):
        resources = study.resources.model_copy(update={"executor": "ray", "cpu": cpu})
        assert count_slots(study.model_copy(update={"resources": resources})) == slots
