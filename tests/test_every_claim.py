"""Every shipped claim is valid, states its hours, and runs one seed at a tiny budget."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import archives
import smallphotos
from nasx import registry
from nasx.claims.model import Claim
from nasx.claims.reading import load
from nasx.claims.run import run_claim
from nasx.results.paired import LEAST
from nasx.run import Run
from nasx.tasks import cifar

FEW = {"train": 60, "valid": 20, "test": 20}


def cifar10(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write archives of 120 random images; return their folder."""
    for name, value in (("TRAIN", 100), ("TEST", 20), ("PER_ARCHIVE", 20)):
        monkeypatch.setattr(cifar, name, value)
    rng = np.random.default_rng(0)
    for name in (*cifar.BATCHES, "test_batch"):
        data = rng.integers(0, 256, (20, 3072), dtype=np.uint8)
        archives.write(folder / name, {b"data": data, b"labels": [*range(10)] * 2})
    archives.write(folder / "batches.meta", {b"label_names": [b"x%d" % i for i in range(10)]})
    return str(folder)


def mnist(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write 200 random images in an .npz; return its path."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (200, 28, 28), dtype=np.uint8)
    np.savez(folder / "mnist.npz", images=images, labels=np.arange(200) % 10)
    return str(folder / "mnist.npz")


def photos(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write ten small pictures in the place of large photographs; return their folder."""
    return smallphotos.write(folder / "photos")


MADE = {"cifar10": cifar10, "mnist": mnist, "photos": photos}  # data that are made for the test


def small(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Claim:
    task = yaml.safe_load(registry.claims()[name].read_text())["task"]
    spec: dict[str, Any] = {"name": task} if isinstance(task, str) else dict(task)
    accepted = inspect.signature(registry.tasks()[spec["name"]]).parameters
    counts = {n for n, option in accepted.items() if "int" in str(option.annotation)}
    spec |= {split: n for split, n in FEW.items() if split in counts}
    if spec["name"] in MADE:
        spec["path"] = MADE[spec["name"]](folder, monkeypatch)
    budget = ["fidelity.full=64", "seeds=[1]", "resources.executor=inline", *short(name)]
    return load(name, [f"task={json.dumps(spec)}", *budget])


def short(name: str) -> Iterator[str]:
    """Yield what shortens the conditions that state a budget: the first and the last of them, tiny.

    Fields that are counts of samples (of what an arm starts from) go to their lowest.
    """
    said = yaml.safe_load(registry.claims()[name].read_text())
    domains = registry.space(said["space"]).domains()
    conditions = said.get("conditions", {})
    stated = [c for c in conditions if "samples" in conditions[c]]
    for i, condition in enumerate(stated):
        conditions[condition]["samples"] = 64 + 32 * i
        fields = conditions[condition].get("candidate", {})
        fields |= {f: domains[f].at(0.0) for f in fields if f.endswith("_samples")}
    kept = {c: v for c, v in conditions.items() if c not in stated[1:-1]}
    if stated:
        yield f"conditions={json.dumps(kept)}"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return one cache for all claims: a space's kernels are compiled once."""
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("name", registry.claims())
def test_claim_says_what_it_is_for_and_runs(name, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("NASX_CACHE", str(cache))
    claim = small(name, tmp_path, monkeypatch)
    assert claim.name == name
    assert claim.desc.endswith("?")
    assert claim.hypothesis.endswith(".")
    assert claim.hours <= 3
    assert len(yaml.safe_load(registry.claims()[name].read_text())["seeds"]) >= LEAST
    found = run_claim(claim, tmp_path / "run")
    assert found.total.verdict == "invalid"
    assert not [a for a in found.arms if a["failed"]]
    assert all(row.found.n == 1 for row in found.rows)
    trials = {t.name: t for t in Run(tmp_path / "run" / found.protocol).snapshot().trials}
    for arm in found.arms:  # a batch may end beyond the budget, by less than one more
        over = trials[arm["trials"]["1"]].samples - claim.samples(arm["condition"])
        assert 0 <= over < 64
    others = [why for why in found.total.reasons if "complete pair" not in why]
    assert all("check " in why for why in others)  # costs match, and nothing undeclared differs


def test_the_wheel_ships_every_question():
    import tomllib

    project = tomllib.loads((registry.HOME / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["studies"]
    root = registry.HOME / "studies"
    assert {f for p in patterns for f in root.glob(p)} == set(root.rglob("*.yaml"))
