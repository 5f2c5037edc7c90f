"""Where a search times latency: one device model, settled at its start and kept by its run.

A machine with another model trains, but nothing is timed there: a provisional latency that its
worker needs is taken on a node that has the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nasx.cost.device import index_of, missing, models_here, wants_gpu
from nasx.errors import NasxError, NoDevice

if TYPE_CHECKING:
    from nasx.study import Measure


@dataclass(frozen=True)
class Place:
    """The device model that a run times on, and the Ray nodes that have it."""

    model: str
    nodes: tuple[str, ...] = ()


def settle(
    measure: Measure, kept: str | None = None, nodes: Mapping[str, Sequence[str]] | None = None
) -> Place:
    """Return where this run times, after timing a tiny network there.

    `kept` is the model that the run has timed on so far, `nodes` are the models of every node of
    a cluster. NasxError where latency cannot be measured, or only by another model: what every
    candidate would fail by is found before the first.
    """
    if measure.via is None:
        mine = _mine(measure, kept, nodes or {})
        try_out(measure)
        return Place(mine, fitting(measure, mine, nodes or {}))
    behind = try_out(measure)
    if kept not in (None, behind):
        raise NasxError(_another(str(kept), f"behind measure.via is {behind}"))
    return Place(behind)


def fitting(measure: Measure, model: str, nodes: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Return the nodes on which a setting times this model."""
    return tuple(node for node, models in nodes.items() if _means(measure, models) == model)


def timing_nodes(place: Place, measure: Measure, mine: str | None, key: str) -> tuple[str, ...]:
    """Return the nodes to ask for a candidate's latency, in order; none: time it here.

    `mine` is the model that the setting means on this machine. Candidates are spread by their key.
    """
    if measure.via is not None or mine == place.model:
        return ()
    if not place.nodes:
        raise NoDevice(f"no node with {place.model} is known, and this machine has {mine}")
    first = int(key, 16) % len(place.nodes)
    return place.nodes[first:] + place.nodes[:first]


def try_out(measure: Measure) -> str:
    """Time a tiny network as a setting says; return the device model that ran it.

    What fails by that is no candidate's own fault: NoDevice.
    """
    import torch

    from nasx.cost.latency import time_networks

    with torch.random.fork_rng(devices=[]):
        tiny = torch.nn.Conv2d(2, 2, 1)
    try:
        found = time_networks({"a tiny network": (tiny, (2, 4, 4))}, measure, passes=1, runs=1)
    except NasxError as error:
        raise NoDevice(f"latency cannot be measured: {error}") from error
    return found["a tiny network"].machine


def _mine(measure: Measure, kept: str | None, nodes: Mapping[str, Sequence[str]]) -> str:
    """Return the model that the driver's machine times on; refuse where it lacks the run's.

    The driver holds candidates to a latency limit and makes the quiet pass, so it must have it.
    """
    mine = _means(measure, models_here(wants_gpu(measure)))
    if mine is not None and kept in (None, mine):
        return mine
    meant = {_means(measure, models) for models in nodes.values()} - {None}
    right = sorted(str(m) for m in meant if kept in (None, m))
    if right:
        raise NasxError(
            f"latency is timed on {right[0]}, which this machine lacks: start the search on a "
            "node that has it, for the final timing runs there; other nodes train all the same"
        )
    if mine is not None:
        raise NasxError(_another(str(kept), f"this machine has {mine}"))
    said = missing(measure, models_here(wants_gpu(measure)))
    if nodes:
        others = sorted({model for models in nodes.values() for model in models})
        said += f", and the nodes of the cluster have {', '.join(others) or 'none'}"
    raise NasxError(f"{said}; name one that is there, or time elsewhere with measure.via")


def _another(kept: str, here: str) -> str:
    return (
        f"this run's latencies were timed on {kept}, and {here}: continue where {kept} is, "
        "or give --out for a new run folder"
    )


def _means(measure: Measure, models: Sequence[str]) -> str | None:
    index = index_of(measure.device, models)
    return None if index is None else models[index]
