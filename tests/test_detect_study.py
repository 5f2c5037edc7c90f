"""From a study of detection to its front, report, pictures and export."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from dashboards._boxes import pictures
from nasx.cli import run as command
from nasx.results.front import front
from nasx.run import snapshot_of

HERE = Path(__file__).parent
STUDY = f"""
desc: How wide must a tiny detector be to find digits?
space: {HERE / "tinydetect.py"}:TinyDetect
task: {{name: digit-scenes, train: 64, valid: 12, test: 10}}
objectives: {{ap50: maximize, macs: minimize}}
fidelity: {{unit: samples, full: 64, factor: 2, rungs: 1}}
search: {{trials: 2}}
resources: {{executor: inline}}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("detect")
    (folder / "small.yaml").write_text(STUDY)
    out = folder / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NASX_CACHE", str(folder / "cache"))
        assert command(["search", str(folder / "small.yaml"), "--out", str(out)]) == 0
        assert command(["export", str(out), "smallest"]) == 0
    return out


def a_front_is_scored_on_both_splits(run: Path) -> None:
    members = front(snapshot_of(run))
    assert members
    for member in members:
        assert set(member["objectives"]) == {"ap50", "macs"}
        assert set(member["test"]) >= {"ap50", "ap"}


def the_report_shows_boxes_of_the_front(run: Path) -> None:
    record = snapshot_of(run)
    page = (run / "report.html").read_text()
    section = page[page.index("What the networks find") :].split("</section>")[0]
    members = [e["trial"] for e in front(record)]
    rows = section.count("<th scope=row>")
    assert rows == 4
    assert section.count('src="data:image/png;base64,') == rows * (1 + len(members))
    assert "What the networks restore" not in page
    for picture in pictures(record, record.trial(int(members[0][1:]))).values():
        assert picture.image.startswith("valid ")
        assert 0 <= picture.found <= picture.objects
        assert picture.objects > 0


def pictures_are_pairs_of_what_is_found_and_what_is_there(run: Path) -> None:
    trial = snapshot_of(run).trial(0)
    paths = sorted((run / "trials" / trial.name / "images").glob("*.png"))
    assert len(paths) == 4
    for path in paths:
        with Image.open(path) as image:
            assert image.size == (768, 384)
            assert json.loads(image.text["boxes"])["cells"] == ["network", "truth"]  # type: ignore[attr-defined]


def the_export_says_how_answers_become_boxes(run: Path) -> None:
    (made,) = (run / "exports").iterdir()
    card = (made / "card.md").read_text()
    parity = json.loads((made / "parity.json").read_text())
    assert all(row["pass"] for row in parity["files"].values())
    assert parity["other_size"] is None
    assert "points of strides" not in card
    assert "Points lie in the middle of the cells of strides 4, 8, 16" in card
    assert "Classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9." in card
    assert "| valid | 12 | ap50 " in card
    block = card.split("```python\n")[1].split("```")[0]
    done = subprocess.run(
        [sys.executable, "-c", block], cwd=made, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[]"]  # nothing is found on a black image


def test_a_study_of_detection_from_search_to_export(run: Path) -> None:
    # One test, or each worker would run the study.
    a_front_is_scored_on_both_splits(run)
    the_report_shows_boxes_of_the_front(run)
    pictures_are_pairs_of_what_is_found_and_what_is_there(run)
    the_export_says_how_answers_become_boxes(run)
