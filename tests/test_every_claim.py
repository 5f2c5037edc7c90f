"""Every shipped claim is valid, states its hours, and runs two seeds at a tiny budget."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import archives
from nasx import registry
from nasx.claims.model import Claim
from nasx.claims.reading import load
from nasx.claims.run import run_claim
from nasx.results.paired import LEAST
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


MADE = {"cifar10": cifar10}  # data of a task that wants a path


def small(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Claim:
    task = yaml.safe_load(registry.claims()[name].read_text())["task"]
    spec: dict[str, Any] = {"name": task} if isinstance(task, str) else dict(task)
    accepted = inspect.signature(registry.tasks()[spec["name"]]).parameters
    spec |= {split: n for split, n in FEW.items() if split in accepted}
    if "path" in accepted:
        spec["path"] = MADE[spec["name"]](folder, monkeypatch)
    budget = ["fidelity.full=64", "seeds=[1, 2]", "resources.executor=inline"]
    return load(name, [f"task={json.dumps(spec)}", *budget])


@pytest.mark.parametrize("name", registry.claims())
def test_claim_says_what_it_is_for_and_runs(name, tmp_path, monkeypatch):
    monkeypatch.setenv("NASX_CACHE", str(tmp_path / "cache"))
    claim = small(name, tmp_path, monkeypatch)
    assert claim.name == name
    assert claim.desc.endswith("?")
    assert claim.hypothesis.endswith(".")
    assert claim.hours <= 3
    assert len(yaml.safe_load(registry.claims()[name].read_text())["seeds"]) >= LEAST
    found = run_claim(claim, tmp_path / "run")
    assert found.total.verdict == "invalid"
    assert not [a for a in found.arms if a["failed"]]
    assert all(row.found.n == 2 for row in found.rows)
    others = [why for why in found.total.reasons if "complete pairs" not in why]
    assert all("check " in why for why in others)  # costs match, and nothing undeclared differs


def test_the_wheel_ships_every_question():
    import tomllib

    project = tomllib.loads((registry.HOME / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["studies"]
    root = registry.HOME / "studies"
    assert {f for p in patterns for f in root.glob(p)} == set(root.rglob("*.yaml"))
