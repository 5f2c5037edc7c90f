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

SHARE = 0.9  # of wall time that a run must have had the CPU, or it counts as contended


def share_of(rows: Sequence[dict[str, Any]], own: str, threads: int) -> float:
    """Return which share of their wall time the runs of some visits had, by the clock `own`."""
    spent = sum(sum(row[own]) for row in rows)
    wall = sum(sum(row["wall_ms"]) for row in rows)
    return min(1.0, spent / (wall * threads))


def contended(samples: Samples, measure: Measure, share: float) -> bool:
    """Say whether other work disturbed a network whose runs had `share` of their wall time.

    By any of these: the device was not held alone where it had to be; the timing thread was ready
    and waited for a CPU (Linux tells); one thread had less than its CPU, in the network's runs or
    in the whole block; others left fewer cores free than several threads need.
    """
    block = samples.block
    wall = block.get("wall_ms") or 0.0
    waited = block.get("waited_ms") or 0.0
    if samples.exclusive is False or waited > (1 - SHARE) * wall:
        return True
    if measure.runtime == "cuda":
        return False  # one thread launches, and rests while the GPU works
    if measure.threads == 1:
        cpu = block.get("cpu_ms")
        return share < SHARE or (cpu is not None and cpu < SHARE * wall)
    # Several threads never use all their CPU time: waiting for each other is no sign.
    others, cores = block.get("others"), int(samples.machine["cores"] or measure.threads)
    return others is not None and others > cores - measure.threads * SHARE
