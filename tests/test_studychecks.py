"""What only the space and the task of a study can tell: fields, domains, scores, paths."""

from pathlib import Path

import pytest

from nasx.studyfile import load
from test_studyfile import GOOD, HERE, faults


@pytest.fixture
def write(tmp_path):
    def put(text: str = GOOD, name: str = "mine.yaml") -> Path:
        file = tmp_path / name
        file.write_text(text)
        return file

    return put


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fix: {widht: 16}", "has no field 'widht'; did you mean 'width'?"),
        ("domains: {width: [1, 999]}", "a study may narrow a domain, never widen it"),
        ("fix: {width: 9999}", "is outside"),
        ("fix: {width: 8}\ndomains: {width: [8, 16]}", "'width' is fixed already"),
        ("search: {start: [baseline, z]}", "there is no published point 'z'"),
        ("objectives: {psnr: maximize}", "does not score psnr"),
        ("task: nothing-such", "there is no task 'nothing-such'"),
        ("space: nothing-such", "there is no space 'nothing-such'"),
        ("space: ./nowhere.py:Net", "there is no file ./nowhere.py"),
        ("assets: {dense: nowhere.safetensors}", "there is no file nowhere.safetensors"),
        (f"space: {HERE}/outside.py:Outside", "the defaults must make a network"),
    ],
)
def test_what_only_space_and_task_can_tell(write, text, message):
    keys = {line.partition(":")[0] for line in text.splitlines()}
    kept = [line for line in GOOD.splitlines() if line.partition(":")[0] not in keys]
    file = write("\n".join([*kept, text]) + "\n")
    said = faults(file)
    assert message in said
    assert said.startswith(f"{file}:")


def test_published_points_outside_the_domains_are_refused(write):
    text = GOOD.replace(f"{HERE}/tiny.py:Tiny\n", "../points.py:Points\n")
    (file := write(text + "")).parent.joinpath("sub").mkdir()
    (file.parent / "points.py").write_text(
        "from nasx.shape import TaskShape\n"
        "from nasx.space import Published, Space, integer\n"
        "S = TaskShape('classify', (1, 8, 8), 10)\n"
        "class Points(Space):\n"
        "    name = 'points'\n"
        "    width: int = integer(1, 9, default=5)\n"
        "Points.published = tuple(\n"
        "    Published(n, {'width': w}, S, None, None) for n, w in (('s', 2), ('l', 8)))\n"
    )
    inner = file.parent / "sub" / "mine.yaml"
    inner.write_text(
        text.replace("sampler: random", "start: [l, s]") + "domains: {width: [4, 9]}\n"
    )
    said = faults(inner)
    assert "'s' lies outside this study's domains (width = 2" in said
    assert "admitted are baseline, l" in said
    assert "'l' lies" not in said


def test_a_file_beside_the_study_is_found_from_elsewhere(write, monkeypatch, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    net = (HERE / "tiny.py").read_text()
    file = write(GOOD.replace(f"{HERE}/tiny.py", "./my_tiny.py"))
    (tmp_path / "my_tiny.py").write_text(net)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load(file).space == f"{tmp_path}/my_tiny.py:Tiny"
    monkeypatch.chdir(tmp_path)
    assert load(file).space == "./my_tiny.py:Tiny"
