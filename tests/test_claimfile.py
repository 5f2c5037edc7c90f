"""The claim file: every fault at once, at its place; and the command from file to verdict."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nasx import cli
from nasx.claims.meaning import CLAIM
from nasx.claims.reading import load
from nasx.errors import MissingData, NasxError
from nasx.studyfaults import validate

HERE = Path(__file__).parent
GOOD = f"""\
desc: Does a wider network read digits better?
hypothesis: A network of width 16 is more accurate than one of width 4.
space: {HERE}/tiny.py:Tiny
task: {HERE}/tiny.py:TinyDigits
arms:
  wide: {{candidate: {{width: 16}}}}
  slim: {{candidate: {{width: 4}}, recipe: {{batch: 48}}}}
compare: [wide, slim]
differ: [width, batch]
seeds: [1, 2, 3, 4, 5]
fidelity: {{full: 600}}
primary: top1
hours: 0.1
resources: {{executor: inline}}
"""


SLIM = "{candidate: {width: 4}, recipe: {batch: 48}}"  # as it stands in GOOD


@pytest.fixture
def write(tmp_path):
    def put(text: str = GOOD, name: str = "wide.yaml") -> Path:
        file = tmp_path / name
        file.write_text(text)
        return file

    return put


def faults(file: Path, *overrides: str) -> str:
    with pytest.raises(NasxError) as caught:
        load(file, overrides)
    return str(caught.value)


def test_a_good_claim_is_read_with_its_defaults(write):
    claim = load(write(), ["fidelity.full=9e2"])
    assert (claim.name, claim.split, claim.fidelity.full) == ("wide", "test", 900)
    assert list(claim.conditions) == ["all"]
    assert claim.study(10).fidelity.budgets() == (900,)
    assert claim.study(10).objectives == {"top1": "maximize"}


def test_every_fault_is_told_at_once_with_its_place(write):
    text = """\
desc: What is wrong?
hypotesis: Everything.
space: tinynet
task: digits
arms:
  a: {candidates: {r: 1.0}}
  b: {rule: axes, meet: c}
  c: {rule: customery}
  c: {rule: fields}
conditions: {x: {share: -1}}
compare: [a, d]
differ: width
seeds: [1, 1, -2]
primary: macs
matched: {top1: 0.03, macs: -1}
checks: {top1: "<= 20"}
fidelity: {full: 10, rungs: 2}
hours: none
"""
    said = faults(write(text))
    for expected in (
        "wide.yaml:1:1: key 'hypothesis' is missing",
        "wide.yaml:2:1: unknown key 'hypotesis'; did you mean 'hypothesis'?",
        "wide.yaml:6:7: unknown key 'candidates' in arms.a; did you mean 'candidate'?",
        "arms.c.rule: 'customery' is not one of fields, axes, customary; did you mean 'customary'?",
        "wide.yaml:9:3: duplicate key 'c' (first on line 8)",
        "conditions.x.share: must be greater than 0, not '-1'",
        "wide.yaml:11:14: compare: there is no arm 'd'",
        "differ: must be a list of what the arms may differ in, e.g. [width], not 'width'",
        "wide.yaml:13:12: seeds: 1 is named twice",
        "seeds: must be at least 0, not '-2'",
        "primary: 'macs' is no score",
        "wide.yaml:15:11: matched: 'top1' is no counted cost",
        "matched.macs: must be at least 0, not '-1'",
        'checks.top1: top1 is better when larger: bound it as ">= 20"',
        "unknown key 'rungs' in fidelity",
        "hours: must be a number, not 'none'",
    ):
        assert expected in said, expected
    assert "    hypotesis: Everything.\n    ^" in said


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("width: 4", "widht: 4", "arms.slim.candidate: space 'tiny' has no field 'widht'; did you"),
        ("width: 4", "width: 5", "is outside 4 to 32 in steps of 4 (nearest: 4)"),
        ("[wide, slim]", "[wide]", "compare: must be a list of two arms"),
        ("[wide, slim]", "[wide, wide]", "compare: 'wide' cannot be compared with itself"),
        ("primary: top1", "primary: psnr", "does not score psnr"),
        ("primary: top1", "primary: acuracy", "'acuracy' is no score"),
        ("tiny.py:TinyDigits", "tiny.py:Digits", "task: "),
        ("  slim: {candidate: {width: 4}, recipe: {batch: 48}}\n", "", "arms: name at least two"),
        (SLIM, "{rule: axes}", "rule axes needs a budget"),
        (SLIM, "{rule: axes, meet: wide}", "declares no axes"),
        (SLIM, "{meet: wide}", "an arm of plain fields meets no budget"),
        (SLIM, "{at: {x: {width: 4}}}", "there is no condition 'x'"),
        ("{batch: 48}", "{rate: 1}", "unknown key 'rate' in arms.slim.recipe"),
        ("[1, 2, 3, 4, 5]", "[]", "seeds: name at least one"),
        ("seeds", "also: [wide, slim]\nseeds", "also.0: must be a list"),
        ("seeds", "also: [[wide, slm]]\nseeds", "also.0: there is no arm 'slm'; did you mean"),
        ("seeds", "also: [[slim]]\nseeds", "also.0: must be two arms"),
        ("seeds", "also: [[slim, slim]]\nseeds", "also.0: 'slim' cannot be compared with itself"),
        ("seeds", "also: [[slim, wide]]\nseeds", "also.0: slim and wide are compared already"),
        (SLIM, '{checks: {moved: "20"}}', "arms.slim.checks.moved: '20' is not a bound: write"),
        (SLIM, '{checks: {moved: ">= 2.0.0"}}', "arms.slim.checks.moved: the number of"),
        (SLIM, '{checks: {top1: "<= 20"}}', "arms.slim.checks.top1: top1 is better when larger"),
        ("seeds", "conditions: {x: {samples: 0}}\nseeds", "conditions.x.samples: must be greater"),
    ],
)  # fmt: skip
def test_a_fault_is_told_in_words(write, old, new, said):
    assert GOOD.count(old) == 1
    assert said in faults(write(GOOD.replace(old, new)))


def test_an_override_reaches_every_section(write):
    sets = ["arms.slim.candidate.width=8", "arms.slim.recipe.batch=32", "fidelity.full=700"]
    claim = load(write(GOOD + "conditions: {a: {}, b: {}}\n"), [*sets, "conditions.b.samples=300"])
    assert claim.arms["slim"].candidate == {"width": 8}
    assert claim.arms["slim"].recipe.batch == 32
    assert [claim.samples(c) for c in ("a", "b")] == [700, 300]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("arms.slm.candidate.width=8", "arms has no 'slm'; did you mean 'slim'?"),
        ("arms.slim.candidat.width=8", "unknown key 'candidat' in arms.slim; did you mean"),
        ("arms.slim.candidate.widht=8", "space 'tiny' has no field 'widht'; did you mean 'width'?"),
        ("arms.slim.candidate.width.0=8", "space 'tiny' has no field 'width.0'"),
        ("hours.x=1", "'hours' has no parts to set"),
    ],
)
def test_an_override_astray_is_told_at_the_override(write, override, said):
    assert f"--set {override}: " in faults(write(), override)
    assert said in faults(write(), override)


def test_missing_data_alone_is_no_fault_of_the_claim(write):
    text = GOOD.replace(f"task: {HERE}/tiny.py:TinyDigits", "task: {name: cifar10, path: nowhere}")
    with pytest.raises(MissingData, match="there is nothing at"):
        load(write(text))


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["arms", "a", "at", "rule", "meet", "seeds"]), inner)
        ),
        max_leaves=8,
    )
)
def test_any_value_is_refused_in_our_own_words(value):
    data = value if isinstance(value, dict) else {"arms": value, "compare": value}
    claim, told = validate({"name": "x", **data}, CLAIM)
    assert claim is None
    assert all(fault.message and "Input should" not in fault.message for fault in told)


def call(capsys, *args):
    code = cli.run([str(a) for a in args])
    out, err = capsys.readouterr()
    return code, out, err


def test_from_file_to_verdict(write, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = write()
    files = ["--csv", "t/a.csv", "--latex", "t/a.tex", "--markdown", "t/a.md"]
    code, out, err = call(capsys, "claim", file, *files)
    assert code == 0
    assert "verdict: supported" in out
    assert "[10/10]" in err
    (row,) = csv.DictReader(Path("t/a.csv").read_text().splitlines())
    assert float(row["low"]) > 0
    assert row["verdict"] == "supported"
    assert Path("t/a.tex").read_text().rstrip().endswith(r"\end{tabular}")
    assert f"nasx claim {file}" in Path("t/a.md").read_text()
    code, out, err = call(capsys, "claim", file, "--json")
    found = json.loads(out)
    assert "[10/10]" not in err  # nothing was trained again
    assert found == json.loads(Path("runs/claims/wide/claim.json").read_text())
    slim, wide = (next(a for a in found["arms"] if a["arm"] == n) for n in ("slim", "wide"))
    assert slim["values"]["macs"] < wide["values"]["macs"]
    assert (slim["recipe"], wide["recipe"]) == ({"batch": 48}, {})
    assert found["hours"]["used"] > 0
    trials = Path("runs/claims/wide", found["protocol"], "trials")
    for arm in found["arms"]:  # trained with the arm's own recipe: the checkpoint says which
        state = json.loads((trials / arm["trials"]["1"] / "checkpoint/state.json").read_text())
        assert state["key"] == arm["key"]
    code, _, err = call(capsys, "status", "runs/claims/wide")
    assert code == 1
    assert f"there are in runs/claims/wide/{found['protocol']}" in err
    code, _, err = call(capsys, "claim", file, "--front", tmp_path / "none")
    assert code == 1
    assert "no run here" in err


def test_a_claim_without_its_data_can_be_passed_over(write, capsys):
    text = GOOD.replace(f"task: {HERE}/tiny.py:TinyDigits", "task: {name: cifar10, path: nowhere}")
    file = write(text)
    assert call(capsys, "claim", file)[0] == 1
    code, out, err = call(capsys, "claim", file, "--skip-missing")
    assert (code, out) == (0, "")
    assert "passed over: " in err
    assert "there is nothing at" in err


def test_the_shipped_claims_are_listed(capsys):
    code, out, _ = call(capsys, "claim", "--json")
    assert code == 0
    assert {"tinynet", "tinynet_cifar"} <= {row["name"] for row in json.loads(out)}
    assert "hypothesis" in call(capsys, "claim")[1]
    code, _, err = call(capsys, "claim", "tinynt")
    assert code == 2
    assert "no shipped claim of that name; did you mean 'tinynet'?" in err
