"""`nasx compare` and `nasx diff` end to end, on run folders with a record."""

import json
import subprocess
import sys

import pytest

from nasx import cli
from nasx.commands_compare import WORSE
from planted_fronts import front_of, run, trial, written


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run before and after its front moved ahead, and one of two spaces."""
    folder = tmp_path_factory.mktemp("runs")
    spaces = [
        trial(0, 80, 2e6), trial(1, 90, 3e6),
        trial(2, 85, 9e6, space="two"), trial(3, 91, 9.5e6, space="two"),
    ]  # fmt: skip
    made = {
        "before": front_of("before", {1e6: 50, 2e6: 60, 3e6: 70}),
        "after": front_of("after", {1e6: 60, 2e6: 70, 4e6: 90}),
        "spaces": run("spaces", spaces, space=["one", "two"]),
        "other": front_of("other", {1e6: 50}, fidelity={"full": 901}),
    }
    return {name: written(snapshot, folder / name) for name, snapshot in made.items()}


def call(capsys, *args):
    """Return the exit code, stdout and stderr of one command line."""
    code = cli.run([str(a) for a in args])
    out, err = capsys.readouterr()
    return code, out, err


def test_diff_exits_with_6_only_where_the_front_got_worse(capsys, runs):
    code, out, err = call(capsys, "diff", runs["after"], runs["before"])
    assert (code, err) == (WORSE, "")
    assert out.splitlines()[-1] == "verdict: worse"
    assert "lost: 3 points" in out
    code, out, _ = call(capsys, "diff", runs["before"], runs["after"], "--json")
    assert code == 0
    found = json.loads(out)
    assert found["verdict"] == "better"
    assert found["difference"] == found["after"]["hypervolume"] - found["before"]["hypervolume"]
    assert found["interval"][0] > 0
    assert [p["trial"] for p in found["gained"]] == ["t0000", "t0001", "t0002"]
    assert found["after"]["cpu_seconds"] == 90
    assert call(capsys, "diff", runs["after"], runs["before"], "--json")[0] == WORSE
    code, out, _ = call(capsys, "diff", runs["after"], runs["after"])
    assert code == 0
    assert "hypervolume +0 (+0.0 %), 95 % interval +0 to +0" in out
    assert out.splitlines()[-1] == "verdict: no difference detected"


def test_compare_prints_the_cheapest_per_space(capsys, runs):
    code, out, _ = call(capsys, "compare", runs["spaces"], "--at", "top1=.84")
    assert code == 0
    assert out.startswith("at top-1 accuracy 84.0 %: asked for; .84 is taken as 84.0 %")
    lines = [line.split() for line in out.splitlines()]
    assert lines[2] == [
        "MACs", "one", "3.00", "M", "3.00", "M", "to", "3.00", "M", "t0001", "90.0", "±", "1.9", "%"
    ]  # fmt: skip
    assert "MACs: one is the cheapest found; two costs more" in out
    found = json.loads(call(capsys, "compare", runs["spaces"], runs["before"], "--json")[1])
    assert [row["space"] for row in found["rows"]] == ["one", "one", "two"]
    # The space whose best is lowest sets the level: 70 % less half of its 95 % interval.
    assert found["level"]["value"] == pytest.approx(67.2, abs=0.1)
    assert set(found["rows"][0]["cheapest"]) == {"macs", "params"}


def test_the_same_answer_twice(capsys, runs):
    for words in (("diff", runs["before"], runs["after"]), ("compare", runs["spaces"])):
        assert call(capsys, *words, "--json") == call(capsys, *words, "--json")


def test_refusals_are_one_line_with_code_1(capsys, runs, tmp_path):
    for words, said in (
        (("diff", runs["before"], runs["other"]), "fidelity: 900 samples -> 901 samples"),
        (("compare", runs["before"], runs["other"]), "fidelity: 900 samples -> 901 samples"),
        (("compare", runs["before"], "--at", "macs=3"), "'macs' is no score of these runs"),
        (("diff", runs["before"], tmp_path), "no run here"),
        (("compare", tmp_path), "no run here"),
    ):
        code, out, err = call(capsys, *words)
        assert (code, out) == (1, "")
        assert said in err
        assert err.count("\n") == 1


def test_a_run_that_has_its_own_record_needs_no_server(capsys, runs, tmp_path):
    server = "postgresql://nobody@127.0.0.1:1/none"
    words = ("diff", runs["before"], runs["after"], "--storage", server)
    assert call(capsys, *words)[0] == 0
    (tmp_path / "resolved.yaml").write_text((runs["after"] / "resolved.yaml").read_text())
    code, _, err = call(capsys, "diff", runs["before"], tmp_path)
    assert code == 1
    assert "give --storage" in err


def test_neither_needs_torch(runs):
    code = (
        "import sys; from nasx.cli import run; "
        f"run(['diff', {str(runs['before'])!r}, {str(runs['after'])!r}]); "
        f"run(['compare', {str(runs['spaces'])!r}]); "
        "print([m for m in ('torch', 'ray', 'plotly') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
