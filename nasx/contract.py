"""The contract that every space keeps: for `nasx spaces --check` and for the tests.

    for fault in check(MyNet): print(fault)

The baseline, both ends of each domain and five drawn candidates are built, run, differentiated,
priced and written down and read back; the published points are counted afresh; the baseline is
trained for 20 steps; every optional hook is called. Each fault says what to mend.
"""

from __future__ import annotations

import dataclasses
import json
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from nasx.contract_faults import Fault, Faults, spell
from nasx.contract_hooks import check_hooks
from nasx.contract_net import built, inspect
from nasx.cost.card import CostCard
from nasx.domain import Choice, Integer, Real
from nasx.errors import NasxError, SpaceError
from nasx.published import compare_published
from nasx.shape import Boxes, TaskShape
from nasx.space import Space
from nasx.study import NAME
from nasx.tasks.base import Task, answer
from nasx.toydetect import ToyDetect
from nasx.toyrestore import ToyRestore
from nasx.toytask import ToyTask

SIDES = (32, 64, 128, 224)  # the smallest input that the baseline takes is used
PATCH = (24, 24)  # of an image to restore
HEADS = ("x2", "denoise", "derain", "x3", "x4")
OBJECTS = tuple(Boxes(3, strides) for strides in ((4, 8, 16), (8, 16, 32)))
TOYS: dict[str, Callable[[TaskShape], Task]] = {
    "classify": ToyTask,
    "restore": ToyRestore,
    "detect": ToyDetect,
}
DRAWN = 5
STEPS = 20


def check(space: type[Space], shape: TaskShape | None = None) -> list[Fault]:
    """Return everything in which `space` breaks the contract, on `shape` or a small default."""
    faults = Faults()
    if not _declared(space, faults):
        return faults.found
    try:
        baseline = space()
        task = _task(space, baseline, shape)
    except NasxError as error:
        faults.add("baseline", None, f"{error}: the defaults must make a network")
        return faults.found
    except Exception as error:
        faults.raised("baseline", None, error)
        return faults.found
    priced: dict[str, tuple[Space, CostCard]] = {}
    refused = 0
    members = list(candidates(space))
    for candidate in members:
        _written(candidate, task.shape, faults)
        with faults.guard("refusal", candidate):
            refused_by_itself = candidate.refusal(task.shape)
            if refused_by_itself and candidate == baseline:
                faults.add("refusal", baseline, f"{refused_by_itself}: the baseline must stand")
        try:
            card = inspect(candidate, task.shape, faults)
        except SpaceError as error:  # a candidate may refuse a shape, and says why
            refused += 1
            if candidate == baseline:
                faults.add("build", candidate, f"{error}: the baseline must build")
            continue
        except Exception as error:
            faults.raised("build", candidate, error)
            continue
        if card is not None:
            _same_key(candidate, card, task.shape, priced, faults)
    if refused > len(members) // 2:
        said = f"{refused} of {len(members)} candidates refuse {task.shape.input}: narrow a domain"
        faults.add("build", None, said)
    if not faults.found:  # what follows stands on all of the above
        with faults.guard("published", None):
            for row in compare_published(space):
                if not row["agrees"]:
                    faults.add("published", None, f"point '{row['name']}': {row['said']}")
        with faults.guard("training", baseline):
            _trains(baseline, task, faults)
        check_hooks(space, task, faults)
    return faults.found


def candidates(space: type[Space]) -> Iterator[Space]:
    """Yield the baseline, both ends of each domain (every named value), and five drawn ones."""
    baseline = space().flat()
    domains = space.domains()
    seen = set()
    flats = [baseline]
    for field in dict.fromkeys(n.rpartition(".")[0] or n for n in domains):
        leaves = [n for n in domains if n == field or n.rpartition(".")[0] == field]
        ends = _ends(domains[leaves[0]])
        flats += [{**baseline, **dict.fromkeys(leaves, value)} for value in ends]
    rng = np.random.default_rng(0)
    flats += [{n: d.sample(rng) for n, d in domains.items()} for _ in range(DRAWN)]
    for flat in flats:
        if repr(flat) not in seen:
            seen.add(repr(flat))
            yield space.from_flat(flat)


def _declared(space: type[Space], faults: Faults) -> bool:
    """Check what stands in the class itself."""
    if not NAME.match(space.name):
        faults.add("name", None, f"name = '{space.name}': use lower-case letters, digits, - and _")
    for said in space.cautions:
        if not isinstance(said, str) or not said.strip().endswith("."):
            faults.add("cautions", None, f"{said!r}: write each as a sentence that ends in a dot")
    for kind in space.tasks:
        if kind not in ("classify", "restore", "detect", "features"):
            said = f"'{kind}' is no kind of task: use classify, restore, detect or features"
            faults.add("tasks", None, said)
    declared: tuple[Any, ...] = dataclasses.fields(space)  # type: ignore[arg-type]
    for field in declared:
        if "domain" not in field.metadata:
            said = (
                f"'{field.name}' has no domain: declare it by integer, real, choice, each or when"
            )
            faults.add("fields", None, said)
    if not faults.found and not space.domains():
        faults.add("fields", None, "there is nothing to search: declare at least one field")
    return not faults.found


def _task(space: type[Space], baseline: Space, shape: TaskShape | None) -> Task:
    """Return a small task of the shape asked for, or of the first one that the baseline builds."""
    if shape is not None and shape.kind in TOYS:
        return TOYS[shape.kind](shape)
    if "classify" in space.tasks:
        small = [TaskShape("classify", (3, side, side), 10) for side in SIDES]
    elif "restore" in space.tasks:
        small = [TaskShape("restore", (3, *PATCH), (head,)) for head in HEADS]
    elif "detect" in space.tasks:
        small = [TaskShape("detect", (3, s, s), boxes) for s in SIDES[1:] for boxes in OBJECTS]
    else:
        return _installed(space)
    for one in small:
        try:
            built(baseline, one)
        except SpaceError:
            if one is small[-1]:
                raise
            continue
        return TOYS[one.kind](one)
    raise SpaceError(f"{space.name}: no input side or stride suits the baseline")


def _installed(space: type[Space]) -> Task:
    """Return an installed task of the space's kind that needs no options."""
    from nasx import registry

    for name in registry.tasks():
        try:
            task = registry.task(name)
        except NasxError:  # it needs a path
            continue
        if task.shape.kind in space.tasks:
            return task
    kinds = ", ".join(space.tasks)
    raise SpaceError(
        f"no installed task is for {kinds}: install one, or write it as ./task.py:make"
    )


def _ends(domain: Any) -> list[Any]:
    if isinstance(domain, Integer):
        return [domain.lo, domain.lo + (domain.hi - domain.lo) // domain.step * domain.step]
    if isinstance(domain, Real):
        return [domain.lo, domain.hi]
    if isinstance(domain, Choice):
        return list(domain.values)
    return []


def _written(candidate: Space, shape: TaskShape, faults: Faults) -> None:
    """Check that a candidate survives JSON and pickling, with its key."""
    with faults.guard("key", candidate):
        text = json.dumps(candidate.values())
        key = candidate.key(shape)
        if candidate.key(shape) != key:
            said = (
                "it changes from call to call: canonical(shape) must follow from the fields alone"
            )
            faults.add("key", candidate, said)
            return
        copies = {
            "JSON": type(candidate).from_json(json.loads(text)),
            "flat values": type(candidate).from_flat(candidate.flat()),
            "pickling": pickle.loads(pickle.dumps(candidate)),
        }
        for way, twin in copies.items():
            if twin != candidate or twin.key(shape) != key:
                said = f"{way} gives another candidate or key: keep fields to plain values"
                faults.add("key", candidate, said)


def _same_key(
    candidate: Space,
    card: CostCard,
    shape: TaskShape,
    priced: dict[str, tuple[Space, CostCard]],
    faults: Faults,
) -> None:
    """Check that candidates with one key are one network."""
    twin, other = priced.setdefault(candidate.key(shape), (candidate, card))
    if (card.params_trained, card.macs_max) != (other.params_trained, other.macs_max):
        said = f"has the key of {spell(twin)} and another cost: canonical(shape) leaves out a field"
        faults.add("canonical", candidate, said)


def _trains(baseline: Space, task: Task, faults: Faults) -> None:
    """Check that 20 steps of the recipe lower the loss of the deployed network."""
    from nasx.training import Training

    size = min(baseline.recipe(task.shape).batch, task.size("train"))
    training = Training(baseline, task, full=STEPS * size, seed=0)
    before = _loss(training, task)
    for _ in training.run(STEPS * size):
        pass
    after = _loss(training, task)
    if not after < before:
        said = f"{STEPS} steps took the loss from {before:.3g} to {after:.3g}: check the recipe"
        faults.add("training", baseline, said)


@torch.no_grad()
def _loss(training: Any, task: Task) -> float:
    size = training.candidate.input_shape(task.shape)
    batch = next(task.batches("train", size, min(64, task.size("train"))))
    return float(task.loss(answer(training.deployed(), batch, task.shape), batch))
