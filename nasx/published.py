"""The published points of a space against our own count."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from nasx.contract_net import built
from nasx.cost.card import CostCard, card_of
from nasx.space import Published, Space


def _card(candidate: Space, point: Published) -> CostCard:
    """Return the cost card of a published point, on shapes alone where its network allows that."""
    # A network in training need not run on shapes alone: where weights are all, none runs.
    runs = point.counted == "trained" and (point.macs, point.adds) != (None, None)

    def card(model: nn.Module) -> CostCard:
        network = model if runs else candidate.decide(copy.deepcopy(model))
        return card_of(network, candidate.input_shape(point.shape), trained=model)

    try:
        with torch.device("meta"):
            return card(candidate.build(point.shape))
    except Exception:  # it needs numbers to be built, decided or run
        return card(built(candidate, point.shape))


def compare_published(space: type[Space]) -> list[dict[str, Any]]:
    """Return, for each published point, the stated and the counted numbers and whether they agree.

    Networks are built on the shape that the point names.
    """
    rows = []
    for point in space.published:
        in_training = point.counted == "trained"
        card = _card(space.from_json(point.candidate), point)
        params = card.params_trained if in_training else card.params
        stated = {"params": point.params, "macs": point.macs, "adds": point.adds}
        counted = {"params": params, "macs": card.macs, "adds": card.adds}
        off = [
            f"{name} is {counted[name]:,}, published {number:,} (tolerance {point.tolerance:.1%})"
            for name, number in stated.items()
            if number is not None and abs(counted[name] - number) > point.tolerance * number
        ]
        rows.append(
            {
                "name": point.name, "params": point.params, "counted_params": params,
                "macs": point.macs, "counted_macs": card.macs, "tolerance": point.tolerance,
                "agrees": not off,
                "said": "; ".join(off) + ": mend build, the candidate or the stated number"
                if off else "",
            }
        )  # fmt: skip
    return rows
