import importlib.metadata
import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from nasx import registry
from nasx.errors import NasxError, SpaceError
from nasx.study import Study
from nasx.userfile import execute

HERE = Path(__file__).parent

SPACE = """\
from nasx.space import Space, choice, each, integer, real, when

class Own(Space):
    name = "own"
    width: int = integer(8, 32, step=8, default=16)
    rates: tuple = each(2, real(0.1, 1.0, default=0.5))
    kind: str = choice("a", "b", default="a")
    extra: int = when("kind", ("b",), integer(0, 4, default=0))
"""


@pytest.fixture
def own(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(SPACE)
    return file


def study(**changes):
    fields = {"name": "s", "desc": "d", "space": "own", "task": "t",
              "objectives": {"top1": "maximize"}}  # fmt: skip
    return Study.model_validate({**fields, **changes})


def test_every_file_of_search_spaces_is_a_space():
    files = {p.stem for p in (registry.HOME / "search_spaces").glob("[!_]*.py")}
    modules = {cls.__module__.rpartition(".")[2] for cls in registry.spaces().values()}
    assert files == modules
    assert all(name == cls.name for name, cls in registry.spaces().items())


def test_an_unknown_space_names_the_nearest():
    with pytest.raises(SpaceError, match=r"no space 'tinynte'; did you mean 'tinynet'\?"):
        registry.space("tinynte")


def test_a_users_file_is_executed_once_and_said(own, caplog):
    with caplog.at_level(logging.INFO, logger="nasx"):
        cls = registry.space(f"{own}:Own")
        assert registry.space(f"{own}:Own") is cls
    assert cls.name == "own"
    assert [r.getMessage() for r in caplog.records] == [f"executing the code of {own}"]


def test_a_changed_file_is_read_afresh(own):
    first = registry.space(f"{own}:Own")
    own.write_text(SPACE.replace("default=16", "default=8"))
    assert registry.space(f"{own}:Own")().width == 8
    assert first().width == 16


def test_a_users_file_is_found_beside_its_base(own, monkeypatch):
    monkeypatch.chdir("/")
    assert registry.space("./own.py:Own", own.parent).name == "own"
    with pytest.raises(SpaceError, match=r"there is no file \./own\.py in /"):
        registry.space("./own.py:Own")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("own.py", "name a class in a file as ./file.py:Class"),
        ("./own.txt:Own", "name a class in a file"),
        ("own.py:Onw", "has no 'Onw'; did you mean 'Own'?"),
        ("own.py:integer", "'integer' is not class MyNet(Space)"),
    ],
)
def test_bad_references(own, reference, message, monkeypatch):
    monkeypatch.chdir(own.parent)
    with pytest.raises(SpaceError) as caught:
        registry.space(reference)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def broken(:\n", ":1: SyntaxError"),
        ("x = 1\ny = x / 0\n", ":2: ZeroDivisionError: division by zero: mend the file"),
        ("import nothing_such\n", ":1: ModuleNotFoundError"),
        ("raise SystemExit(0)\n", ":1: SystemExit: 0: mend the file"),
    ],
)
def test_a_file_that_fails_names_its_line(tmp_path, text, message):
    file = tmp_path / "bad.py"
    file.write_text(text)
    with pytest.raises(SpaceError) as caught:
        execute(file)
    assert f"{file}{message}" in str(caught.value)
    assert not [name for name in sys.modules if name.startswith("nasx_user_bad")]


def test_a_space_without_a_name_is_refused(tmp_path):
    file = tmp_path / "anon.py"
    file.write_text(SPACE.replace('    name = "own"\n', ""))
    with pytest.raises(SpaceError, match=r"has no name"):
        registry.space(f"{file}:Own")


def test_entry_points_add_spaces_and_a_name_used_twice_names_both(own, monkeypatch):
    cls = registry.space(f"{own}:Own")
    point = SimpleNamespace(name="own", value="pkg:Own", group="nasx.spaces", load=lambda: cls)
    monkeypatch.setattr(
        importlib.metadata, "entry_points",
        lambda group: [point] if group == "nasx.spaces" else [],
    )  # fmt: skip
    registry._spaces.cache_clear()
    try:
        assert registry.spaces()["own"] is cls
        monkeypatch.setattr(cls, "name", "tinynet")
        registry._spaces.cache_clear()
        with pytest.raises(NasxError, match=r"'tinynet' is used twice") as caught:
            registry.spaces()
        assert str(own) in str(caught.value)
        assert "search_spaces/tinynet.py" in str(caught.value)
    finally:
        registry._spaces.cache_clear()


def test_an_entry_point_that_cannot_be_loaded_is_named(monkeypatch):
    def load():
        raise ImportError("gone")

    point = SimpleNamespace(name="x", value="pkg:X", group="nasx.tasks", load=load)
    monkeypatch.setattr(
        importlib.metadata, "entry_points", lambda group: [point] if group == "nasx.tasks" else []
    )
    registry._tasks.cache_clear()
    try:
        with pytest.raises(NasxError, match=r"entry point nasx.tasks: x = pkg:X cannot be loaded"):
            registry.tasks()
    finally:
        registry._tasks.cache_clear()


def test_a_users_task_with_options(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def make(path, side=32):\n    return (path, side)\n")
    name = f"{file}:make"
    assert registry.task({"name": name, "path": "here"}) == ("here", 32)
    with pytest.raises(NasxError, match=r"has no option 'sid'; did you mean 'side'\?"):
        registry.task({"name": name, "path": "here", "sid": 8})
    with pytest.raises(NasxError, match=r"needs 'path'"):
        registry.task(name)


def test_shipped_studies_are_found_by_name():
    files = sorted((registry.HOME / "studies").rglob("*.yaml"))
    assert sorted([*registry.studies().values(), *registry.claims().values()]) == files
    assert all(f.parent.name == "claims" for f in registry.claims().values())


def test_figures_come_in_order():
    orders = [figure.ORDER for figure in registry.figures()]
    assert orders == sorted(orders)
    assert len(set(orders)) == len(orders) > 3


def test_a_shadowing_package_is_named(monkeypatch, tmp_path):
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path / "studies")])
    monkeypatch.setattr(registry.importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(NasxError, match=r"'studies' is taken from .*, which shadows nasx's own"):
        registry.studies()


def test_fix_and_domains_cut_the_leaves(own):
    cls = registry.space(f"{own}:Own")
    cut = registry.study_domains(
        study(fix={"kind": "b", "width": 8}, domains={"rates": [0.2, 0.4], "extra": [1, 2]}), cls
    )
    assert (cut["kind"].size, cut["width"].size) == (1, 1)
    assert cut["width"].default == 8
    assert (cut["rates.0"].lo, cut["rates.1"].hi) == (0.2, 0.4)
    assert cut["extra"].size == 2
    assert set(cut) == set(cls.domains())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fix": {"width": 9}}, "9 is outside 8 to 32 in steps of 8"),
        ({"fix": {"kind": "c"}}, "is not one of"),
        ({"fix": {"rates": [0.2]}}, "needs 2 values"),
        ({"domains": {"width": [8, 64]}}, "never widen"),
        ({"domains": {"widht": [8, 16]}}, "did you mean 'width'"),
    ],
)
def test_widening_and_unknown_fields_are_refused(own, changes, message):
    with pytest.raises(SpaceError) as caught:
        registry.study_domains(study(**changes), registry.space(f"{own}:Own"))
    assert message in str(caught.value)


def test_fields_of_other_spaces_are_left_alone(own):
    cls = registry.space(f"{own}:Own")
    several = study(space=("own", "other"), fix={"width": 8, "theirs": 1})
    assert registry.study_domains(several, cls)["width"].size == 1


def test_each_leaf_may_be_fixed_apart(own):
    cls = registry.space(f"{own}:Own")
    whole = registry.study_domains(study(fix={"rates": [0.2, 0.3]}), cls)
    assert (whole["rates.0"].default, whole["rates.1"].default) == (0.2, 0.3)
    one = registry.study_domains(study(fix={"rates.1": 0.7}), cls)
    assert (one["rates.0"].hi, one["rates.1"].hi) == (1.0, 0.7)


def test_a_field_that_cannot_become_active_is_not_searched() -> None:
    from search_spaces.tinynet import TinyNet

    solved = registry.study_domains(study(fix={"width": "solved"}), TinyNet)
    assert (solved["w"].size, solved["w"].default) == (1, 1.0)
    assert solved["c"].size > 1
    both = registry.study_domains(study(), TinyNet)
    assert both["w"].size > 1
    assert both["c"].size > 1
