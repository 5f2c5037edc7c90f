"""What the user guide says is tried as it stands there."""

import re
from pathlib import Path

import pytest
import yaml

import nasx
from nasx.axes import AXES
from nasx.cli import run as command
from nasx.contract import check
from nasx.registry import space
from nasx.study import Study

HOME = Path(__file__).resolve().parent.parent
DOCS = HOME / "docs"


def blocks(file: Path, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", file.read_text(), re.DOTALL)


def test_the_guides_network_keeps_the_contract_and_reaches_a_front(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert check(space(f"{DOCS}/my_net.py:MyNet")) == []
    small = ["fidelity.full=300", "fidelity.rungs=1", "search.trials=3", "search.sampler=random",
             "resources.executor=inline", "final.neighbours=0"]  # fmt: skip
    options = [word for text in small for word in ("--set", text)]
    assert command(["search", str(DOCS / "my_study.yaml"), *options]) == 0
    out, _ = capsys.readouterr()
    assert "report: runs/my_study/report.html" in out
    assert out.splitlines()[-1] == "next:   nasx export runs/my_study knee"  # it has no rule
    assert nasx.front("runs/my_study")


def test_the_guide_shows_the_files_that_are_tested():
    guide = DOCS / "your-own-space.md"
    (shown,) = blocks(guide, "yaml")
    assert shown == (DOCS / "my_study.yaml").read_text()
    head = blocks(guide, "python")[0].partition("    def build")[0]
    assert head in (DOCS / "my_net.py").read_text().replace(
        '    """Width of each stage, blocks in each stage, and the activation."""\n\n', ""
    )
    assert len((DOCS / "my_net.py").read_text().splitlines()) <= 40


def test_the_documented_study_holds_every_key_with_its_default():
    shown = yaml.safe_load(blocks(DOCS / "study-files.md", "yaml")[0])
    study = Study.model_validate({"name": "x", **shown})
    assert set(shown) == set(Study.model_fields) - {"name"}
    for section in ("fidelity", "search", "final", "measure", "resources"):
        assert getattr(study, section) == Study.model_fields[section].default
        assert set(shown[section]) == set(type(getattr(study, section)).model_fields)


def test_every_axis_stands_in_the_docs():
    text = (DOCS / "study-files.md").read_text()
    assert [a for a in AXES if f"`{a}`" not in text] == []


def test_the_readme_says_first_what_to_type():
    head = "\n".join((HOME / "README.md").read_text().splitlines()[:20])
    assert "make search" in head
    assert "make test" in head


@pytest.mark.parametrize("file", sorted([HOME / "README.md", *DOCS.rglob("*.md")]), ids=str)
def test_links_lead_somewhere(file):
    for target in re.findall(r"\]\(([^)#]+)", file.read_text()):
        if "://" not in target:
            assert (file.parent / target).exists(), target


@pytest.mark.parametrize("file", sorted([HOME / "README.md", *DOCS.rglob("*.md")]), ids=str)
def test_commands_in_the_docs_exist(file):
    from nasx.cli import COMMANDS

    for name in re.findall(r"(?:^|`|\$ )nasx ([a-z]+)\b", file.read_text(), re.MULTILINE):
        assert name in COMMANDS, name
