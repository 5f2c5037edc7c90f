"""How super-resolution networks are trained: one cycle of Adam on small crops.

Measured in docs/measurements/super_resolution.md. Batches are small because on a processor what
counts is the number of steps; nothing decays, because the corrections that are learnt are small.
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

RATE, WARM, BATCH = 2e-3, 0.1, 16


def restoring(
    rate: float = RATE,
    *,
    loss: Loss = task_loss,
    groups: Groups = model_parameters,
    after: Callable[[State], None] | None = None,
) -> Recipe:
    """Return one phase of Adam on augmented crops: warm-up, cosine, no weight decay.

    Groups may have a rate of their own, which follows the same curve.
    """
    step = Step(loss, groups, adamw(rate, 0.0), one_cycle(warm=WARM), after=after)
    return Recipe((Phase("train", 1.0, (step,)),), BATCH)
