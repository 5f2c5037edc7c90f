"""The Ray Tune executor: faults in workers, and what a cluster lacks. One local Ray for all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from nasx.errors import NasxError
from nasx.search.search import search
from nasx.trial import State
from simulated import Simulated
from test_engine import study


@pytest.fixture(scope="module", autouse=True)
def ray_up() -> Iterator[None]:
    here = Path(__file__).parent
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(here), str(here.parent), before or ""])
    from nasx.search.cluster import leave_ray, start_ray

    start_ray(None, 1, 0, dashboard=False)
    yield
    leave_ray()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


def test_faults_fail_alone_and_dead_workers_are_tried_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    faults = {1: "raise", 3: "kill once", 5: "nan"}
    asked = study(9, resources={"executor": "ray"})
    found = search(asked, tmp_path, evaluate=Simulated(faults=faults)).snapshot()
    states = {t.number: t.state for t in found.trials}
    assert len(states) == 9
    assert [n for n, s in states.items() if s is State.FAILED] == [1, 5]
    assert states[3] in (State.STOPPED, State.COMPLETE)
    assert found.trials[1].reason == "RuntimeError: the layer does not fit"
    assert sum(s is State.COMPLETE for s in states.values()) == 2
    assert capfd.readouterr().out == ""


def test_a_poisonous_trial_fails_after_three_workers(tmp_path: Path) -> None:
    asked = study(2, rungs=1, resources={"executor": "ray"})
    found = search(asked, tmp_path, evaluate=Simulated(faults={1: "kill"})).snapshot()
    assert found.trials[0].state is State.COMPLETE
    assert found.trials[1].state is State.FAILED
    assert found.trials[1].reason == "the worker process died (3 times)"


def test_resources_no_node_has_are_refused() -> None:
    from nasx.search.cluster import start_ray

    with pytest.raises(NasxError, match=r"asks for 1 CPU and 0\.5 GPU, but the largest of 1 node"):
        start_ray(None, 1, 0.5, dashboard=False)


def test_a_dashboard_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from nasx.search import cluster

    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(NasxError, match=r"aiohttp, .* pip install 'nasx\[dashboard\]'"):
        cluster._demand_dashboard()


def test_the_cluster_is_not_told_the_command_line_of_the_driver() -> None:
    import ray

    assert ray._private.utils.get_entrypoint_name() == "nasx search"
