"""Trained networks that a study supplies are looked at before anything is trained."""

from pathlib import Path

import pytest
import torch

from nasx.errors import NasxError
from nasx.registry import task
from nasx.studyfile import load
from nasx.weights import pack
from search_spaces.adder import Adder

STUDY = """\
desc: Does a teacher that is there already help?
space: adder
fix: {teacher: pretrained, width: 0.25}
task: digits
objectives: {top1: maximize, macs: minimize}
constraints: {}
fidelity: {unit: samples, full: 400, factor: 2, rungs: 1}
search: {trials: 2}
assets: {teacher: weights.file}
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    (tmp_path / "study.yaml").write_text(STUDY)
    return tmp_path / "study.yaml"


def weights(**fields: object) -> dict[str, torch.Tensor]:
    """The state of the convolutional twin."""
    return Adder.from_json(fields).build(task("digits").shape).state_dict()


def refusal(study: Path) -> str:
    with pytest.raises(NasxError) as caught:
        load(study)
    said = [line for line in str(caught.value).splitlines() if "assets.teacher" in line]
    assert len(said) == 1
    return said[0]


def test_weights_that_fit_are_taken(study: Path) -> None:
    (study.parent / "weights.file").write_bytes(pack(weights(width=0.25)))
    assert load(study).assets == {"teacher": str(study.parent / "weights.file")}


def test_weights_of_another_architecture(study: Path) -> None:
    (study.parent / "weights.file").write_bytes(pack(weights(width=0.5)))
    said = refusal(study)
    assert f"{study}:9:" in said
    assert "does not fit the network: of another shape: stages.0.layers.0.weight is (" in said
    assert "give weights of adder {" in said
    assert "or leave 'teacher' out of 'assets:' to have it trained" in said


@pytest.mark.parametrize("kind", ["pickle", "text", "folder of decisions"])
def test_what_is_no_safetensors_file(study: Path, kind: str) -> None:
    file = study.parent / "weights.file"
    if kind == "pickle":
        torch.save(weights(width=0.25), file)
    elif kind == "text":
        file.write_text("no weights")
    else:
        file.write_bytes(pack(weights(width=0.25), decisions="[1"))
    said = refusal(study)
    assert f"{file}: cannot be read (" in said
    assert "as safetensors, or leave 'teacher' out of 'assets:'" in said
