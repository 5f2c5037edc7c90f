"""The export bundle: every file runs without nasx and computes what was scored, or none is left."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from nasx.errors import ParityError
from nasx.export import bundle
from search_spaces._backbones import Plan, Stage, network

ABOUT = {"study": "small", "trial": "t0000", "space": "tinynet", "candidate": {}}


def trained() -> nn.Module:
    """Return a net of every block kind whose BatchNorm statistics are not the initial ones."""
    torch.manual_seed(0)
    stages = (Stage(8, 1, kind="conv"), Stage(12, 2, stride=2, expand=3, squeeze=0.25))
    model = network(Plan(3, 8, stages, 16, 5, activation="silu"))
    for _ in range(3):
        model(torch.randn(8, 3, 16, 16) * 2 + 1)
    return model.eval()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("run") / "exports" / "t0000"
    inputs = torch.randn(64, 3, 16, 16)
    return bundle(trained(), ABOUT, "# t0000\n", target, inputs)


def test_the_bundle_is_whole_and_its_sums_hold(made: Path) -> None:
    names = {f.name for f in made.iterdir()}
    assert names == {
        "architecture.json", "weights.safetensors", "model.onnx", "model.pt2", "model.py",
        "card.md", "parity.json", "SHA256SUMS",
    }  # fmt: skip
    for line in (made / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((made / name).read_bytes()).hexdigest() == digest


def test_parity_is_written_per_file(made: Path) -> None:
    parity = json.loads((made / "parity.json").read_text())
    assert set(parity["files"]) == {"model.onnx", "model.pt2", "model.py"}
    assert all(f["max_relative"] <= 1e-4 for f in parity["files"].values())
    assert all(f["top1_agreement"] == 1.0 for f in parity["files"].values())


def test_model_py_runs_alone(made: Path) -> None:
    assert "nasx" not in (made / "model.py").read_text()
    done = subprocess.run(
        [sys.executable, "-I", "model.py"], cwd=made, capture_output=True, text=True, check=True
    )
    assert "output (1, 5)" in done.stdout


def test_a_miss_fails_loudly_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nasx import modelfile

    true = modelfile.stored_tensors

    def altered(program: torch.export.ExportedProgram) -> dict[str, torch.Tensor]:
        return {k: v + 0.1 if v.is_floating_point() else v for k, v in true(program).items()}

    monkeypatch.setattr(modelfile, "stored_tensors", altered)
    target = tmp_path / "exports" / "t0000"
    with pytest.raises(ParityError, match=r"model\.py does not compute what was scored"):
        bundle(trained(), ABOUT, "", target, torch.randn(64, 3, 16, 16))
    assert list(target.parent.iterdir()) == []
