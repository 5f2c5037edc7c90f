"""The Ray Tune executor: faults in workers, and what a cluster lacks. One local Ray for all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
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


def test_tune_keeps_quiet_in_a_process_that_had_ray_before_nasx() -> None:
    code = (
        "import ray; import nasx.search.cluster; from ray.tune.experimental import output; "
        "print(output.get_air_verbosity(0))"
    )
    bare = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "TUNE_"))}
    done = subprocess.run(
        [sys.executable, "-c", code], env=bare, capture_output=True, text=True, check=True
    )
    assert done.stdout == "None\n"


@pytest.fixture
def second_node(tmp_path: Path) -> Iterator[str]:
    """Add a node to the local cluster; return its id."""
    import ray

    known = {n["NodeID"] for n in ray.nodes()}
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=0",
             "--address", ray.get_runtime_context().gcs_address, "--disable-usage-stats",
             "--object-store-memory=100000000"]  # fmt: skip
    with (tmp_path / "node.log").open("w") as log:
        node = subprocess.Popen(start, stdout=log, stderr=log)
    try:
        found: set[str] = set()
        while node.poll() is None and not found:
            time.sleep(0.05)
            found = {n["NodeID"] for n in ray.nodes() if n["Alive"]} - known
        yield found.pop()
    finally:
        node.send_signal(signal.SIGTERM)
        node.wait(30)


def test_on_other_models_candidates_train_and_are_timed_on_a_node_that_fits(
    tmp_path: Path, second_node: str
) -> None:
    from elsewhere import Elsewhere
    from nasx.search.nodes import node_models, start_timers

    models = node_models(gpu=False)
    assert set(models) > {second_node}
    assert len(set(models.values())) == 1
    tiny = Path(__file__).parent / "tiny.py"
    asked = study(
        2,
        rungs=1,
        space=f"{tiny}:Tiny",
        task=f"{tiny}:TinyDigits",
        objectives={"top1": "maximize", "latency_ms": "minimize"},
        measure={"runtime": "eager"},
        fidelity={"full": 128, "rungs": 1},
        fix={"rate": 0.01},
        resources={"executor": "ray"},
    )
    evaluator = Elsewhere(asked, tmp_path, tmp_path, (second_node,))
    start_timers(evaluator, (second_node,))
    found = search(asked, tmp_path, evaluate=evaluator).snapshot()
    assert {t.state for t in found.trials} == {State.COMPLETE}
    assert all(t.values["latency_ms"] > 0 for t in found.trials)
    trained, timed = evaluator.noted("trained"), evaluator.noted("timed")
    assert len(trained) == len(timed) == 2
    assert {node for node, _ in trained} == set(models) - {second_node}
    assert {node for node, _ in timed} == {second_node}
    assert len(set(timed)) == 1  # one timer for all
    assert all((tmp_path / f"trials/t000{n}/latency.jsonl").is_file() for n in range(2))
