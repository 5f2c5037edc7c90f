"""The contract's look at a network whose work depends on the input: is what it says of it true?"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from nasx.contract_faults import Faults
from nasx.cost.card import CostCard
from nasx.cost.mean import mean_card
from nasx.cost.ops import on_shapes
from nasx.errors import NasxError
from nasx.space import Space
from nasx.varying import misshapen, varies, widest_of

SCALES = (0.25, 1.0, 4.0)  # of the inputs, so that gates have something to tell apart
CLOSE = 1e-3  # of the largest output: what a batch may change in one sample's

Answers = Callable[[nn.Module, Tensor], Iterator[Tensor]]


def check_varying(
    candidate: Space,
    network: nn.Module,
    inputs: Tensor,
    outputs: list[Tensor],
    most: CostCard,
    answers: Answers,
    faults: Faults,
) -> None:
    """Hold `paths` and `widest` of a deployed network to `nasx.varying`, on inputs (N, ...).

    `outputs` are what it answered to them before it was counted, `most` is its card, and
    `answers` yields outputs. Networks that have neither are passed over.
    """
    if not varies(network):
        for one, other in (("paths", "widest"), ("widest", "paths")):
            if hasattr(network, one):
                faults.add("varying", candidate, f"it has {one} and no {other}: give it both")
        return
    several = torch.cat([scale * inputs for scale in SCALES])
    with faults.guard("paths", candidate), torch.no_grad():
        found: object = network.paths(several)  # type: ignore[operator]
        said = misshapen(found, len(several)) or _untrue(network, several, found)
        if said:
            faults.add("paths", candidate, said)
            return
    with faults.guard("widest", candidate), torch.no_grad():
        whole = list(answers(network, several))
        if not _reads_shapes_alone(widest_of(network), inputs[:1]):
            said = "widest() looks at values: let it run whatever the input, without a gate"
            faults.add("widest", candidate, said)
        if not all(map(torch.equal, outputs, answers(network, inputs))):
            faults.add("widest", candidate, "widest() changes the network: answer a copy of it")
        try:
            mean_card(network, [several], most)
        except NasxError as error:
            faults.add("widest", candidate, str(error))
        alone = zip(*(list(answers(network, x)) for x in several.split(1)), strict=True)  # type: ignore[no-untyped-call]
        for batch, parts in zip(whole, alone, strict=True):
            away = (torch.cat(parts) - batch).abs().max()
            if away > CLOSE * batch.abs().max():
                said = "what a sample is answered depends on its batch: gate each by itself"
                faults.add("varying", candidate, said)


def _untrue(network: nn.Module, inputs: Tensor, found: object) -> str | None:
    """Return what is wrong with the values of paths (N, k), or None."""
    assert isinstance(found, Tensor)
    if not torch.equal(network.paths(inputs), found):  # type: ignore[operator]
        return "paths(inputs) differs from call to call: in eval mode let nothing be random"
    alone = torch.cat([network.paths(x) for x in inputs.split(1)])  # type: ignore[operator, no-untyped-call]
    if not torch.equal(alone, found):
        return "paths(inputs) of a sample depends on its batch: gate each by itself"
    ways = tuple(getattr(network, "ways", ()))
    if ways and (len(ways) != found.shape[1] or (found >= torch.tensor(ways)).any()):
        return f"paths(inputs) does not fit ways = {ways}: one number for each place"
    return None


def _reads_shapes_alone(widest: nn.Module, inputs: Tensor) -> bool:
    try:
        on_shapes(widest.eval(), (inputs,))
    except NasxError:
        return False
    return True
