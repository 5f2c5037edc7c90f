"""The published points of a space against our own count."""

from __future__ import annotations

import copy
from typing import Any

from nasx.contract_net import built
from nasx.cost.card import card_of
from nasx.space import Space


def compare_published(space: type[Space]) -> list[dict[str, Any]]:
    """Return, for each published point, the stated and the counted numbers and whether they agree.

    Networks are built on the shape that the point names.
    """
    rows = []
    for point in space.published:
        candidate = space.from_json(point.candidate)
        model = built(candidate, point.shape)
        in_training = point.counted == "trained"
        # A network in training need not run on shapes alone: where weights are all, none runs.
        runs = in_training and (point.macs, point.adds) != (None, None)
        network = model if runs else candidate.decide(copy.deepcopy(model))
        card = card_of(network, candidate.input_shape(point.shape), trained=model)
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
