import json
import resource
import subprocess
import sys
from pathlib import Path

import click
import pytest

import nasx
from nasx import cli
from nasx.errors import Interrupted, NothingFeasible, ParityError
from simulated import Simulated

HERE = Path(__file__).parent
DOCS = (HERE.parent / "docs" / "commands.md").read_text()

STUDY = f"""\
desc: Which hill is high and cheap?
space: {HERE}/simulated.py:Hill
task: {HERE}/tiny.py:TinyDigits
objectives: {{top1: maximize, macs: minimize}}
constraints: {{macs: "<= 2.0e6"}}
fidelity: {{full: 90, rungs: 2}}
search: {{trials: 8, sampler: random, order: strict}}
resources: {{executor: inline}}
"""


@pytest.fixture(scope="module")
def hill(tmp_path_factory):
    """A finished run of a simulated study, and its study file."""
    folder = tmp_path_factory.mktemp("hill")
    file = folder / "hill.yaml"
    file.write_text(STUDY)
    run = nasx.search(nasx.load(file), folder / "run", evaluate=Simulated())
    return file, run.path


def call(capsys, *args):
    """Return the exit code, stdout and stderr of one command line."""
    code = cli.run([str(a) for a in args])
    out, err = capsys.readouterr()
    return code, out, err


def commands():
    context = click.Context(cli.group)
    return {name: cli.group.get_command(context, name) for name in cli.COMMANDS}


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help_and_stands_in_the_docs(name):
    command = commands()[name]
    assert command.help
    assert f"nasx {name}" in DOCS
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts}"
            assert parameter.opts[-1] in DOCS, f"{name} {parameter.opts}"


def test_every_command_that_prints_results_has_json():
    for name, command in commands().items():
        options = {o for p in command.params for o in p.opts}
        assert ("--json" in options) == (name != "watch")


def test_bodies_are_thin():
    import ast

    for name in ("commands.py", "commands_compare.py", "commands_look.py"):
        for node in ast.parse((HERE.parent / "nasx" / name).read_text()).body:
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                assert node.end_lineno - body[0].lineno < 20, node.name


def cpu(*args):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *args], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_costs_little_more_than_click():
    click_alone = min(cpu("-c", "import click") for _ in range(4))
    assert min(cpu("-m", "nasx", "--help") for _ in range(4)) < 2 * click_alone


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from nasx.cli import run; run(['--help']);"
        "print([m for m in ('torch', 'ray', 'optuna', 'numpy', 'pydantic', 'yaml', 'rich')"
        " if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "search" in done.stdout


def test_an_unknown_command_names_the_nearest(capsys):
    code, _, err = call(capsys, "serach")
    assert code == 2
    assert "there is no command 'serach'; did you mean 'search'?" in err


def test_a_bad_study_is_told_whole_with_code_2(capsys, hill, tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text(STUDY.replace("trials: 8", "trails: 8").replace("random", "nsga"))
    code, out, err = call(capsys, "validate", file)
    assert (code, out) == (2, "")
    assert err.startswith(f"nasx: {file} has 2 faults\n{file}:7:10: unknown key 'trails'")


def test_no_run_here_is_one_line_with_code_1(capsys, tmp_path):
    for command in ("status", "front", "rule", "report", "doctor"):
        code, out, err = call(capsys, command, tmp_path)
        assert (code, out) == (1, "")
        assert err.startswith(f"nasx: {tmp_path}: no run here")
        assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NothingFeasible("x"), 3), (ParityError("x"), 4), (Interrupted("x"), 130),
        (KeyboardInterrupt(), 130),
    ],
)  # fmt: skip
def test_exit_codes(capsys, monkeypatch, hill, error, code):
    def fail(*_args):
        raise error

    monkeypatch.setattr("nasx.run.status", fail)
    assert call(capsys, "status", hill[1])[0] == code


def test_the_unexpected_is_one_line_and_its_trace_is_kept(capsys, monkeypatch, tmp_path, hill):
    def fail(*_args):
        raise KeyError("a\nb")

    monkeypatch.setattr("nasx.run.status", fail)
    code, _, err = call(capsys, "status", hill[1])
    assert code == 1
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert "KeyError" in err
    row = json.loads((hill[1] / "log.jsonl").read_text().splitlines()[-1])
    assert "Traceback" in row["traceback"]
    monkeypatch.setenv("NASX_CACHE", str(tmp_path))
    monkeypatch.setattr("nasx.registry.studies", fail)
    _, _, err = call(capsys, "studies")
    assert str(tmp_path / "log.jsonl") in err
    assert (tmp_path / "log.jsonl").is_file()


def test_a_full_disk_is_told_without_a_traceback(capsys, monkeypatch, hill):
    def full(*_args):
        raise OSError(28, "No space left on device", "record.sqlite3")

    monkeypatch.setattr("nasx.run.status", full)
    code, _, err = call(capsys, "status", hill[1])
    assert code == 1
    assert "the disk is full (record.sqlite3)" in err


def test_a_broken_pipe_is_quiet(hill):
    done = subprocess.run(
        f"{sys.executable} -m nasx status {hill[1]} --json | true; echo ${{PIPESTATUS[0]}}",
        shell=True, executable="/bin/bash", capture_output=True, text=True,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout in ("0\n", "1\n")


def test_validate_prints_the_whole_study(capsys, hill):
    code, out, _ = call(capsys, "validate", hill[0], "--set", "search.trials=9", "--json")
    assert code == 0
    assert json.loads(out)["search"]["trials"] == 9
    code, out, _ = call(capsys, "validate", hill[0])
    assert "valid (hill: Which hill is high and cheap?)" in out


def test_status_prints_the_same_twice(capsys, hill):
    first = call(capsys, "status", hill[1], "--json")
    assert first == call(capsys, "status", hill[1], "--json")
    found = json.loads(first[1])
    assert set(found) == {"study", "identity", "states", "rejected"}
    assert sum(found["states"].values()) == 8
    assert "COMPLETE" in call(capsys, "status", hill[1])[1]


def test_front_has_the_public_keys(capsys, hill):
    entries = json.loads(call(capsys, "front", hill[1], "--json")[1])
    assert entries
    keys = {"trial", "space", "candidate", "key", "seeds", "fidelity", "objectives", "test",
            "card", "membership"}  # fmt: skip
    assert keys <= set(entries[0])
    out = call(capsys, "front", hill[1])[1]
    assert out.splitlines()[0].split()[:2] == ["trial", "space"]
    assert len(out.splitlines()) == len(entries) + 1
    scores = [float(line.split()[2]) for line in out.splitlines()[1:]]
    assert scores == sorted(scores, reverse=True)


def test_report_writes_one_file(capsys, hill, tmp_path):
    code, out, _ = call(capsys, "report", hill[1], "-o", tmp_path / "r.html", "--json")
    assert code == 0
    assert Path(json.loads(out)["report"]).read_text().startswith("<!doctype html>")


def test_a_place_that_cannot_be_written_is_one_line(capsys, hill, tmp_path):
    code, _, err = call(capsys, "report", hill[1], "-o", tmp_path)
    assert code == 1
    said = f"{tmp_path} cannot be written (Is a directory); name another file with --out"
    assert err == f"nasx: {said}\n"
    (tmp_path / "file").touch()
    code, _, err = call(capsys, "search", hill[0], "--out", tmp_path / "file")
    assert code == 1
    assert err.startswith(f"nasx: {tmp_path / 'file'} cannot be a run folder (File exists)")


def test_a_damaged_study_of_a_run_is_one_line(capsys, hill, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    for text in ("a: [", "name: hill"):
        (run / "resolved.yaml").write_text(text)
        code, _, err = call(capsys, "front", run)
        assert code == 1
        assert err.startswith(f"nasx: {run / 'resolved.yaml'} cannot be read (it is damaged)")


def test_missing_data_have_code_1_and_a_bad_study_code_2(capsys, tmp_path):
    file = tmp_path / "pets.yaml"
    task = "{name: folder, path: nowhere, side: 32}"
    sound = STUDY.replace(f"{HERE}/tiny.py:TinyDigits", task)
    file.write_text(sound)
    code, _, err = call(capsys, "validate", file)
    assert code == 1
    assert "there is nothing at" in err
    file.write_text(sound + "domains: {depth: [1, 99]}\n")
    code, _, err = call(capsys, "validate", file)
    assert code == 2
    assert "has 2 faults" in err


def test_studies_and_spaces_list_what_there_is(capsys):
    rows = json.loads(call(capsys, "spaces", "--json")[1])
    assert set(rows[0]) >= {"name", "paper", "tasks", "fields", "published"}
    assert {r["name"] for r in rows} == set(nasx.spaces())
    for row in rows:
        text = call(capsys, "spaces", row["name"])[1]
        assert row["paper"] in text
        for name in row["fields"]:
            assert name in text
        for sentence in row["cautions"]:
            assert f"note: {sentence}" in text
    listed = json.loads(call(capsys, "studies", "--json")[1])
    assert all(row["desc"] for row in listed)


def test_the_check_of_a_space_tells_its_faults(capsys, tmp_path):
    file = tmp_path / "short.py"
    text = (HERE.parent / "docs" / "my_net.py").read_text()
    file.write_text(text.replace("shape.classes)]", "7)]"))
    code, out, err = call(capsys, "spaces", "--check", f"{file}:MyNet")
    assert code == 2
    assert "output at the baseline: the output is (4, 7), wanted (4, 10)" in out
    assert "1 fault: mend, then check again" in err
    assert f"executing the code of {file}" in err


def test_search_continues_and_prints_status(capsys, hill, monkeypatch):
    monkeypatch.setattr(sys.modules["nasx.search.search"], "_training", lambda *_: Simulated())
    monkeypatch.setattr("nasx.results.final.finish", lambda run, trained, note: None)
    code, out, _ = call(capsys, "search", hill[0], "--out", hill[1], "--add-trials", "2", "--json")
    assert code == 0
    assert sum(json.loads(out)["states"].values()) == 10
    code, out, _ = call(capsys, "search", hill[0], "--out", hill[1])
    assert code == 0
    assert "report:" in out
    code, _, err = call(capsys, "search", hill[0], "--out", hill[1], "--set", "fidelity.full=99")
    assert code == 1
    assert "holds another study: fidelity.full: 90 -> 99" in err
