"""Was a measurement disturbed by other work on the machine?

A very short network may fit between two slices of the scheduler and notice nothing of a busy CPU,
while its neighbours in the block wait. So the block is judged as a whole too, with its calibrators
and warm runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nasx.cost.samples import Samples
from nasx.study import Measure

SHARE = 0.9  # of the CPU it needs that a measurement must have, or it counts as contended


def share_of(rows: Sequence[dict[str, Any]], own: str, threads: int) -> float:
    """Return which share of their wall time the runs of some visits had, by the clock `own`."""
    spent = sum(sum(row[own]) for row in rows)
    wall = sum(sum(row["wall_ms"]) for row in rows)
    return min(1.0, spent / (wall * threads))


def room(samples: Samples, measure: Measure, share: float) -> float:
    """Return which share of the CPU that it needed a network's measurement had, at most 1.

    `share` is that of its own runs. The least counts of: the time in which the timing thread did
    not wait for a CPU although it was ready (Linux tells); for one thread its CPU time, in the
    network's runs and in the whole block; for several the cores that other processes left free,
    since several never use all their CPU time. A GPU's launching thread rests while the GPU works.
    """
    block = samples.block
    wall = block.get("wall_ms")
    cpu, waited, others = (block.get(name) for name in ("cpu_ms", "waited_ms", "others"))
    found = [1.0]
    if wall and waited is not None:
        found.append(1 - waited / wall)
    if measure.runtime == "cuda":
        return min(found)
    if measure.threads == 1:
        found.append(share)
        if wall and cpu is not None:
            found.append(cpu / wall)
    elif others is not None:
        cores = int(samples.machine["cores"] or measure.threads)
        found.append((cores - others) / measure.threads)
    return max(0.0, min(found))


def contended(samples: Samples, room: float) -> bool:
    """Say whether other work disturbed a network that had this much room."""
    return samples.exclusive is False or room < SHARE
