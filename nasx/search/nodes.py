"""The nodes of a Ray cluster: which device models they have, and a latency taken on one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nasx.cost.device import models_here
from nasx.errors import NasxError
from nasx.search.cluster import ray

if TYPE_CHECKING:
    from nasx.search.evaluate import Ticket
    from nasx.search.trained import Trained

ANSWER = 60.0  # seconds for a node to say what it has: Python and, for GPUs, torch start there


def node_models(gpu: bool) -> dict[str, tuple[str, ...]]:
    """Return the device models of every living node by its id; a node that is silent has none."""
    asked = {
        node["NodeID"]: _on(node["NodeID"], models_here).remote(gpu)
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"]
    }
    ray.wait(list(asked.values()), num_returns=len(asked), timeout=ANSWER)
    found = {}
    for node, answer in asked.items():
        try:
            found[node] = tuple(ray.get(answer, timeout=0.1))
        except (ray.exceptions.RayError, TimeoutError):
            found[node] = ()
    return found


def latency_elsewhere(evaluator: Trained, ticket: Ticket, nodes: tuple[str, ...]) -> float:
    """Return a candidate's provisional latency, taken on the first of these nodes that lives."""
    lost = "none was asked"
    for node in nodes:
        try:
            value, fault = ray.get(_on(node, _time).remote(evaluator, ticket))
        except ray.exceptions.RayError as error:
            lost = str(error).strip().splitlines()[0]
            continue
        if fault is not None:
            raise NasxError(fault)
        return float(value)
    raise NasxError(f"no node that has the device to time on answers ({lost})")


def _time(evaluator: Trained, ticket: Ticket) -> tuple[float | None, str | None]:
    """Time a candidate on this node; a fault is returned, for Ray would print its traceback."""
    from nasx.search.evaluate import one_line

    try:
        evaluator.prepare()
        return evaluator.latency(evaluator.candidate(ticket)), None
    except Exception as error:
        return None, one_line(error)


def _on(node: str, function: Any) -> Any:
    """Return a function as a Ray task that runs on one node, beside whatever trains there."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(function).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
