"""The optional part of the contract: every hook that a space may write is called and held to it."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import Any

from torch import nn

from nasx.contract_faults import Faults
from nasx.contract_net import built
from nasx.cost.card import CostCard, card_of
from nasx.cost.matched import ELSEWHERE, MATCHED
from nasx.domain import Integer, Real, When
from nasx.space import Space
from nasx.tasks.base import Task

RULE = 0.03  # how far a solved candidate's MACs may be off


def check_hooks(space: type[Space], task: Task, faults: Faults) -> None:
    """Call every optional hook on the baseline."""
    baseline, shape = space(), task.shape
    with faults.guard("rebuild", baseline):
        if _names(baseline.rebuild(shape, {})) != _names(baseline.build(shape)):
            faults.add("rebuild", baseline, "rebuild(shape, {}) differs from build(shape)")
    card = _card(baseline, task)
    with faults.guard("repair", baseline):
        limit = 0.7 * card.macs_max
        better = baseline.repair(shape, {"macs": limit})
        if better is not None and _card(better, task).macs_max > limit:
            said = f"repair(shape, limits) left the MACs above {limit:.0f}: return None instead"
            faults.add("repair", baseline, said)
        elif better is not None and better.refusal(shape) is not None:
            faults.add("repair", better, "repair(shape, limits) gave what refusal(shape) refuses")
    with faults.guard("control", baseline):
        control = baseline.control(shape)
        if control is not None and not any(getattr(card, kind) for kind in ELSEWHERE):
            _near("control", "control(shape)", control, card.macs, MATCHED, task, faults)
    with faults.guard("parts", baseline):
        _parts(baseline, card, task, faults)
    with faults.guard("whole", baseline):
        whole = baseline.whole(shape)
        if whole is not None and _card(whole, task).macs < card.macs:
            faults.add("whole", baseline, "whole(shape) has fewer MACs than what was cut from it")
    with faults.guard("needs", baseline):
        for name, asset in baseline.needs(shape).items():
            if asset.samples <= 0:
                faults.add("needs", baseline, f"asset '{name}' is trained on no sample")
    with faults.guard("diagnose", baseline):
        model = baseline.decide(built(baseline, task.shape)).eval()
        for name, value in baseline.diagnose(model, task).items():
            if not math.isfinite(value):
                faults.add("diagnose", baseline, f"'{name}' is {value}: give finite numbers")
    with faults.guard("neighbours", baseline):
        if not list(baseline.neighbours(space.domains())):
            faults.add("neighbours", baseline, "the baseline has no neighbour: widen a domain")
    with faults.guard("when", baseline):
        _inactive(space, baseline, task, faults)
    with faults.guard("axes", baseline):
        _rule(space, baseline, card, task, faults)


def _parts(baseline: Space, card: CostCard, task: Task, faults: Faults) -> None:
    """Check that each part alone takes other widths, and that MACs rise with them."""
    shape = task.shape
    for name, part in baseline.parts(shape).items():
        widths = list(part.widths)
        if part.width not in widths or widths != sorted(set(widths)):
            said = f"the widths of '{name}' must rise and hold its own, {part.width}"
            faults.add("parts", baseline, said)
            continue
        same = baseline.resized({name: part.width}, shape)
        if same.key(shape) != baseline.key(shape):
            said = f"resized to its own width, {part.width}, of '{name}' it is another network"
            faults.add("parts", baseline, said)
        macs = {part.width: card.macs}
        for width in {widths[0], widths[-1]} - {part.width}:
            resized = baseline.resized({name: width}, shape)
            if resized.parts(shape)[name].width != width:
                said = f"'{name}' resized to {width} says it is {resized.parts(shape)[name].width}"
                faults.add("parts", baseline, said)
            if resized.refusal(shape) is None:
                macs[width] = _card(resized, task).macs
        counts = [macs[width] for width in sorted(macs)]
        if counts != sorted(set(counts)):
            faults.add("parts", baseline, f"MACs do not rise with the width of '{name}': {counts}")


def _inactive(space: type[Space], baseline: Space, task: Task, faults: Faults) -> None:
    """Check that a field which is not active leaves the key as it is."""
    fields: tuple[Any, ...] = dataclasses.fields(space)  # type: ignore[arg-type]
    for field in fields:
        domain = field.metadata["domain"]
        if not isinstance(domain, When):
            continue
        governor = space.domains()[domain.name]
        off = [v for v in getattr(governor, "values", ()) if v not in domain.values]
        if not off:
            continue
        idle = space.from_flat({**baseline.flat(), domain.name: off[0]})
        for leaf, inner in domain.leaves(field.name).items():
            for value in inner.neighbours(idle.flat()[leaf])[:1]:
                twin = space.from_flat({**idle.flat(), leaf: value})
                if twin.key(task.shape) != idle.key(task.shape):
                    said = f"'{leaf}' is not active and changes the key: use self.active()"
                    faults.add("when", idle, said)


def _rule(space: type[Space], baseline: Space, card: CostCard, task: Task, faults: Faults) -> None:
    """Check that candidates solved for a MAC budget meet it."""
    if not space.axes:
        return
    domains = space.domains()
    wrong = [a for a in space.axes if not isinstance(domains.get(a), Integer | Real)]
    if wrong:
        said = f"axes names {', '.join(wrong)}: name integer or real fields of the space"
        faults.add("axes", None, f"{said} (of a field with several values, one as 'width.0')")
        return
    here: dict[str, Any] = {a: baseline.flat()[a] for a in space.axes}
    solved = space.from_axes(here, card.macs, task.shape)
    _near("axes", "from_axes(values, macs, shape)", solved, card.macs, RULE, task, faults)
    null = space.null_from_macs(card.macs, task.shape)
    _near("axes", "null_from_macs(macs, shape)", null, card.macs, RULE, task, faults)


def _near(
    part: str, call: str, candidate: Space, macs: int, share: float, task: Task, faults: Faults
) -> None:
    got = _card(candidate, task).macs
    if abs(got - macs) > share * macs:
        said = f"{call} has {got:,} MACs for {macs:,}, more than {share:.0%} off"
        faults.add(part, candidate, said)


def _card(candidate: Space, task: Task) -> CostCard:
    model = built(candidate, task.shape)
    deployed = candidate.decide(copy.deepcopy(model))
    return card_of(deployed, candidate.input_shape(task.shape), trained=model)


def _names(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}
