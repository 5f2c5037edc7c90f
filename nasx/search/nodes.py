"""The nodes of a Ray cluster: which device models they have, and a latency taken on one of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasx.cost.device import models_here
from nasx.errors import NasxError, NoDevice
from nasx.search.cluster import ray

if TYPE_CHECKING:
    from nasx.search.evaluate import Ticket
    from nasx.search.trained import Trained

ANSWER = 60.0  # seconds for a node to say what it has: Python and, for GPUs, torch start there
TRIES = 2  # of each node: a timer may have died with the worker that started it


def node_models(gpu: bool) -> dict[str, tuple[str, ...]]:
    """Return the device models of every living node by its id; a node that is silent has none."""
    asked = {
        node["NodeID"]: ray.remote(models_here).options(**_beside(node["NodeID"])).remote(gpu)
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"]
    }
    ray.wait(list(asked.values()), num_returns=len(asked), timeout=ANSWER)
    found = {}
    for node, answer in asked.items():
        try:
            found[node] = ray.get(answer, timeout=0.1)
        except ray.exceptions.RayError:  # a node that died, or a time that ran out
            found[node] = ()
    return found


def start_timers(evaluator: Trained, nodes: Iterable[str]) -> None:
    """Start a timer on each node, to live as long as this process keeps the evaluator."""
    for node in nodes:
        _timer(evaluator, node)


def latency_elsewhere(evaluator: Trained, ticket: Ticket, nodes: tuple[str, ...]) -> float:
    """Return a candidate's provisional latency, taken on the first of these nodes that lives.

    NoDevice where none does, or where nothing can be timed there.
    """
    lost = "none was asked"
    for node in [node for node in nodes for _ in range(TRIES)]:
        try:
            found = ray.get(_timer(evaluator, node).time.remote(ticket))
        except ray.exceptions.RayError as error:
            evaluator.timers.pop(node, None)
            lost = str(error).strip().splitlines()[0]
            continue
        if isinstance(found, Exception):
            raise found
        return float(found)
    raise NoDevice(f"no node that has the device to time on answers ({lost})")


class Timer:
    """Times one candidate after the other on the node where it lives, for all workers of a run."""

    def __init__(self, evaluator: Trained) -> None:
        evaluator.prepare()
        self.evaluator = evaluator

    def time(self, ticket: Ticket) -> float | NasxError:
        """Return a latency, or why there is none: Ray would print the traceback of what raises."""
        from nasx.search.evaluate import one_line

        try:
            candidate, folder = self.evaluator.candidate(ticket), Path(ticket.folder)
            return self.evaluator.latency(candidate, folder / "latency.jsonl")
        except NoDevice as error:
            return NoDevice(str(error))
        except Exception as error:
            return NasxError(one_line(error))


def _timer(evaluator: Trained, node: str) -> Any:
    """Return the run's timer on a node, started where there is none yet.

    It lives as long as who started it keeps its handle: the driver, which starts them all, or a
    worker on a node that joined later.
    """
    if node not in evaluator.timers:
        name = f"nasx-timer-{node}-{evaluator.run_folder}"
        options = {**_beside(node), "name": name, "get_if_exists": True}
        evaluator.timers[node] = ray.remote(Timer).options(**options).remote(evaluator)
    return evaluator.timers[node]


def _beside(node: str) -> dict[str, Any]:
    """Return the options of work that runs on one node, beside whatever trains there."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node, soft=False)
    return {"num_cpus": 0, "scheduling_strategy": there}
