"""The claim file: every fault at once, at its place; and the command from file to verdict."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from made_record import study, trial
from nasx import cli
from nasx.claims.differences import recipe_facts
from nasx.claims.meaning import CLAIM
from nasx.claims.plan import altered, plan
from nasx.claims.reading import load
from nasx.errors import MissingData, NasxError
from nasx.recipe import Phase, Recipe, Step, adamw, standard
from nasx.shape import TaskShape
from nasx.studyfaults import validate
from nasx.training import Training
from nasx.trial import Snapshot
from tiny import Tiny, TinyDigits

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
    ],
)  # fmt: skip
def test_a_fault_is_told_in_words(write, old, new, said):
    assert GOOD.count(old) == 1
    assert said in faults(write(GOOD.replace(old, new)))


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


def test_an_arm_changes_its_recipe_under_a_key_of_its_own(write):
    shape = TaskShape("classify", (1, 8, 8), 10)
    plain = Tiny(width=4)
    changed = altered(plain, {"batch": 16, "augment": False})
    assert changed.recipe(shape).batch == 16
    assert changed.recipe(shape).augment is False
    assert plain.recipe(shape).batch == 64
    assert changed.key(shape) != plain.key(shape)
    assert altered(plain, {"batch": 16, "augment": False}).key(shape) == changed.key(shape)
    assert altered(plain, {}) is plain


def test_a_seed_gives_both_arms_the_same_order_and_initial_weights():
    def begun(seed: int, changes: dict[str, object]) -> tuple[Tensor, Tensor]:
        arm = altered(Tiny(width=4), changes)
        training = Training(arm, TinyDigits(), full=256, seed=seed)
        weight = training.model.head.weight.detach().clone()
        next(iter(training.run(256)))
        return weight, training.state.batch.targets["label"]

    ours, theirs, other = begun(3, {}), begun(3, {"augment": False}), begun(4, {})
    assert torch.equal(ours[0], theirs[0])
    assert torch.equal(ours[1], theirs[1])
    assert not torch.equal(ours[0], other[0])
    assert not torch.equal(ours[1], other[1])


def test_a_recipe_is_compared_down_to_what_its_functions_hold():
    a = recipe_facts(standard(lr=0.1))
    b = recipe_facts(standard(lr=0.2))
    assert {k for k in a if a[k] != b[k]} == {"optimizer.lr"}
    assert a == recipe_facts(standard(lr=0.1))
    two = Recipe((Phase("x", 0.5, (Step(),)), Phase("y", 0.5, (Step(optimizer=adamw(1.0)),))))
    assert recipe_facts(two)["y.optimizer.lr"] == 1.0


def test_the_tiny_arm_is_the_tiny_formula_through_the_published_nets():
    import numpy as np

    from nasx import registry
    from nasx.results.forms import gp

    points = registry.space("tinynet").published
    b0 = points[0].macs
    x = np.log([p.macs / b0 for p in points[1:]])
    for name in registry.claims():
        arm = load(name, ["task=digits-in-photos"]).arms["tiny"]
        for axis in ("r", "d"):
            fit = gp(x, np.array([p.candidate[axis] for p in points[1:]]))
            formula = fit.predict(np.log([0.06, 0.12, 0.25])).mean
            written = [arm.at[c][axis] for c in ("c06", "c12", "c25")]
            assert written == pytest.approx(formula, abs=6e-4), (name, axis)


@pytest.mark.parametrize(("name", "side"), [("tinynet", 64), ("tinynet_cifar", 32)])
def test_the_first_claims_are_matched_and_declare_all(name, side):
    from nasx.claims.differences import differing
    from nasx.results.verdict import cost_gap

    claim = load(name, ["task=digits-in-photos"])
    shape = TaskShape("classify", (3, side, side), 10)
    planned = plan(claim, shape, lambda c: c.macs(shape))
    base = planned[0].candidate.base
    for first, second in zip(planned[::2], planned[1::2], strict=True):
        assert (first.arm, second.arm) == ("tiny", "compound")
        a, b = first.candidate.macs(shape), second.candidate.macs(shape)
        assert cost_gap(a, b) <= 0.03
        assert set(differing(first, second, shape)) <= set(claim.differ)
        assert first.candidate.base == second.candidate.base == base
    assert claim.hours <= 3


def test_what_a_front_says_of_the_axes(tmp_path):
    from nasx.claims.front import followed

    asked = study(objectives={"top1": "maximize", "macs": "minimize"}, constraints={})
    trials = tuple(
        trial(i, 50.0 + 5 * i, 1e5 * 2**i, candidate={"r": 0.5 + 0.1 * i, "d": 1.5 - 0.1 * i})
        for i in range(6)
    )
    found = followed(Snapshot("made", tmp_path, asked, trials))
    assert (found["points"], found["run"]) == (6, str(tmp_path))
    assert found["correlations"]["r"]["rho"] == pytest.approx(1.0)
    assert found["correlations"]["d"]["rho"] == pytest.approx(-1.0)
    with pytest.raises(NasxError, match="its front has 3 points, too few for a correlation"):
        followed(Snapshot("made", tmp_path, asked, trials[:3]))


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
