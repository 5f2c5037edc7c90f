"""How small detectors are trained: one cycle of AdamW on small batches.

Measured in docs/measurements/detect.md. Batches are small because on a processor what counts is
the number of steps.
"""

from __future__ import annotations

from collections.abc import Callable

from nasx.recipe import (
    Groups,
    Loss,
    Phase,
    Recipe,
    State,
    Step,
    adamw,
    model_parameters,
    one_cycle,
    task_loss,
)

RATE, WARM, DECAY, BATCH = 1e-2, 0.15, 0.05, 8


def detecting(
    rate: float = RATE,
    *,
    loss: Loss = task_loss,
    groups: Groups = model_parameters,
    after: Callable[[State], None] | None = None,
) -> Recipe:
    """Return one phase of AdamW on varied images: warm-up, cosine.

    Groups may have a rate of their own, which follows the same curve.
    """
    step = Step(loss, groups, adamw(rate, DECAY), one_cycle(warm=WARM), after=after)
    return Recipe((Phase("train", 1.0, (step,)),), BATCH)
