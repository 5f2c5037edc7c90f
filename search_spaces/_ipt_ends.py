"""Heads, tails and queries change around a body: more of them for pre-training, fewer after it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from nasx.tasks.degrade import degradation, scale_of
from search_spaces._ipt_nets import Ipt

SIGMA = (10.0, 70.0)  # of "denoise", whose level is not known


def fitted(model: Ipt, names: Sequence[str]) -> Ipt:
    """Return a network of these degradations around the same body.

    One that the network does not know starts from the nearest that it knows: noise from the level
    next to it. Where there is none, head, tail and query start anew.
    """
    made = Ipt(replace(model.plan, names=tuple(names)))
    made.body = model.body
    for name in names:
        known = nearest(name, model.plan.names)
        if known is not None:
            made.queries[name] = nn.Parameter(model.queries[known].detach().clone())
            made.entries[made.head_of(name)] = copy.deepcopy(model.entries[model.head_of(known)])
            made.tails[made.tail_of(name)] = copy.deepcopy(model.tails[model.tail_of(known)])
        elif model.plan.shared:
            made.entries[made.head_of(name)] = copy.deepcopy(model.entries[model.head_of(name)])
            if model.tail_of(name) in model.tails:
                tail = copy.deepcopy(model.tails[model.tail_of(name)])
                made.tails[made.tail_of(name)] = tail
    return made.train(model.training)


def deployed(model: Ipt) -> Ipt:
    """Return the network of the task's own degradations."""
    asked = model.plan.asked or model.plan.names
    return model if asked == model.plan.names else fitted(model, asked)


def nearest(name: str, known: Sequence[str]) -> str | None:
    """Return the degradation among `known` that is most like one: itself, or other noise."""
    if name in known:
        return name
    level = _level(name)
    others = [other for other in known if _level(other)]
    return min(others, key=lambda other: abs(_level(other) - level)) if level and others else None


def _level(name: str) -> float:
    """Return the middle of a noise's deviation, 0 for what is no noise."""
    found = degradation(name, SIGMA) if scale_of(name) == 1 else None
    return 0.0 if found is None else sum(found.sigma) / 2
