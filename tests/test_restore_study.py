"""From a study of restoration to its front, report, crops and export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from dashboards._crops import strips
from nasx import cost, registry
from nasx.cli import run as command
from nasx.contract import check
from nasx.errors import NasxError
from nasx.results.front import front
from nasx.run import snapshot_of
from nasx.shape import TaskShape
from nasx.training import Training
from tiny import finish
from tinyrestore import Careless, OnlyTwice, TinyRestore

HERE = Path(__file__).parent
STUDY = f"""
desc: How wide must a tiny net be to enlarge photographs?
space: {HERE / "tinyrestore.py"}:TinyRestore
task: {{name: photos, patch: 16, patches: 160}}
objectives: {{psnr: maximize, macs: minimize, latency_ms: minimize, energy_uj: minimize}}
fidelity: {{unit: samples, full: 160, factor: 2, rungs: 1}}
search: {{trials: 2}}
resources: {{executor: inline}}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    (folder / "small.yaml").write_text(STUDY)
    out = folder / "run"
    assert command(["search", str(folder / "small.yaml"), "--out", str(out)]) == 0
    return out


def test_a_front_has_all_four_objectives(run: Path) -> None:
    members = front(snapshot_of(run))
    assert members
    for member in members:
        assert set(member["objectives"]) == {"psnr", "macs", "latency_ms", "energy_uj"}
        assert 25 < member["objectives"]["psnr"] < 40
        assert set(member["test"]) >= {"psnr", "ssim"}


def test_the_report_shows_labelled_crops_of_the_front(run: Path) -> None:
    record = snapshot_of(run)
    page = (run / "report.html").read_text()
    assert "What the networks restore" in page
    assert "binomial" not in page  # a PSNR is no share of right answers
    section = page[page.index("What the networks restore") :].split("</section>")[0]
    heads = [part.split("<")[0] for part in section.split("<th scope=col>")[1:]]
    members = [word for word in heads if word.startswith("t0")]
    assert heads[:3] == ["crop", "input", "bicubic"]
    assert heads[-1] == "truth"
    assert members
    rows = section.count("<th scope=row>")
    assert rows == 4
    assert section.count('src="data:image/png;base64,') == rows * (3 + len(members))
    assert section.count(" dB</") >= rows * (1 + len(members))
    trial = record.trial(int(members[0][1:5]))
    for place, strip in strips(record, trial).items():
        assert place[0] == "x2"
        assert list(strip.cells) == ["input", "bicubic", "network", "truth"]
        assert set(strip.psnr) == {"bicubic", "network"}


def test_files_that_are_no_crops_do_not_break_a_report(run: Path) -> None:
    record = snapshot_of(run)
    trial = record.trial(0)
    folder = run / "trials" / trial.name / "images"
    before = set(strips(record, trial))
    (folder / "a.png").write_bytes(b"no image")
    Image.new("RGB", (8, 8)).save(folder / "b.png")
    assert set(strips(record, trial)) == before


def test_an_export_says_how_images_go_in_and_out(run: Path, tmp_path: Path) -> None:
    assert command(["export", str(run), "t0000", "--out", str(tmp_path / "it")]) == 0
    card = (tmp_path / "it" / "card.md").read_text()
    assert "Images are RGB in [0, 1]" in card
    assert "x2: shrunk by 2 (antialiased bicubic)" in card
    assert "2 times as high and wide" in card
    assert "| valid | 2 | psnr " in card
    parity = json.loads((tmp_path / "it" / "parity.json").read_text())
    assert all(row["pass"] for row in parity["files"].values())
    code = card.split("```python\n")[1].split("```")[0]
    assert "/ 255" in code
    assert parity["other_size"] == [24, 32]
    assert "float32 (N, 3, height, width), any of the three; 16 x 16 is what" in card
    file = onnxruntime.InferenceSession(str(tmp_path / "it" / "model.onnx"))
    (source,) = file.get_inputs()
    answer = file.run(None, {source.name: np.zeros((2, 3, 21, 34), np.float32)})[0]
    assert answer.shape == (2, 3, 42, 68)
    assert ".clip(0, 1) * 255" in code


def photos(**options: Any) -> Any:
    return registry.task({"name": "photos", "patch": 16, "patches": 96, **options})


def test_several_heads_train_in_one_run_and_resume_bit_for_bit(tmp_path: Path) -> None:
    task = photos(degradations=["x2", "denoise30", "derain"])

    def training() -> Training:
        return Training(TinyRestore(width=8), task, full=192, seed=3)

    whole = finish(training())
    first = finish(training(), 96)
    first.save(tmp_path / "half")
    second = training()
    second.load(tmp_path / "half")
    finish(second)
    for a, b in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)
    scores = whole.score("valid")
    assert tuple(scores) == task.metrics
    assert scores["psnr_denoise30"] > task.without_net("valid")["psnr_denoise30"]


def test_a_scale_that_the_network_was_not_built_for_is_one_sentence() -> None:
    with pytest.raises(NasxError, match="only-twice enlarges by 2"):
        Training(OnlyTwice(), photos(degradations=["x3"]), full=32, seed=0)
    with pytest.raises(NasxError, match=r"for x3 the network turns .* built for another scale"):
        finish(Training(Careless(), photos(degradations=["x3"]), full=32, seed=0))


def test_the_contract_knows_restoration() -> None:
    assert check(TinyRestore, TaskShape("restore", (3, 16, 16), ("x2", "denoise"))) == []
    assert check(OnlyTwice) == []
    faults = check(Careless, TaskShape("restore", (3, 16, 16), ("x3",)))
    assert [f.part for f in faults] == ["output"]
    assert "wanted (4, 3, 48, 48) for x3" in faults[0].message


def test_costs_are_counted_on_a_small_patch_where_no_task_is_named() -> None:
    card = cost(TinyRestore(width=8))
    assert card.macs == 32 * 32 * (9 * 3 * 8 + 9 * 8 * 12)
    other = cost(TinyRestore(width=8), task={"name": "photos", "degradations": ["x3"], "patch": 16})
    assert other.macs == 16 * 16 * (9 * 3 * 8 + 9 * 8 * 27)
