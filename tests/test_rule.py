"""Scaling rules: planted ones recovered, refusals, the published points, the null, scaling."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nasx.errors import NothingFeasible, SpaceError
from nasx.results.evidence import binomial_error, correlations
from nasx.results.forms import FORMS, gp, left_out, power
from nasx.results.rule import LEAST_POINTS, rule
from nasx.results.scale import scale
from nasx.results.setting import counted_macs, fixed, setting_of
from nasx.shape import TaskShape
from nasx.space import Space, choice, each, integer, real
from nasx.study import Fidelity, Study
from nasx.trial import RungScore, Snapshot, State, Trial

GOLDEN = Path(__file__).parent / "golden" / "tinynet_points.json"
SHAPE = TaskShape("classify", (3, 32, 32), 10)
BASE = 10_000_000


class Toy(Space):
    name = "toy"
    axes = ("r", "d")
    size: str = choice("small", "large", default="large")
    r: float = real(0.3, 1.3, default=1.0)
    d: float = real(0.35, 1.6, default=1.0)
    w: float = real(0.05, 4.0, default=1.0)

    @classmethod
    def from_axes(cls, values, macs, shape):
        own = cls(**values)
        return replace(own, w=math.sqrt(macs / macs_of(own, shape)))

    @classmethod
    def null_from_macs(cls, macs, shape):
        phi = math.log(macs / macs_of(cls(), shape)) / math.log(1.2 * 1.1**2 * 1.15**2)
        return cls(r=1.15**phi, d=1.2**phi, w=1.1**phi)


class NoNull(Toy):
    name = "no_null"

    @classmethod
    def null_from_macs(cls, macs, shape):
        raise SpaceError("there is no customary rule here")


class Ten:
    """A task of which only shape and size are asked."""

    name, shape, metrics = "ten", SHAPE, ("top1",)

    def size(self, split):
        return {"train": 4000, "valid": 1000, "test": 1000}[split]


def macs_of(candidate, shape):
    scale_of = {"small": 0.1, "large": 1.0}[candidate.size]
    return round(scale_of * BASE * candidate.r**2 * candidate.d * candidate.w**2)


def snapshot(rows, **study):
    """Return a run of (r, d, c, score) rows."""
    trials = []
    for number, (r, d, c, score) in enumerate(rows):
        macs = round(BASE * c)
        values = {"top1": score, "psnr": score, "macs": macs}
        candidate = {"size": "large", "r": r, "d": d, "w": math.sqrt(c / (r**2 * d))}
        trials.append(
            Trial(
                number=number,
                space="toy",
                candidate=candidate,
                key=f"k{number}",
                state=State.COMPLETE,
                rungs=(RungScore(0, 900, values),),
                card={"macs": macs, "unpriced": []},
                diagnosis={"open": c / 2},
            )
        )
    whole = {
        "objectives": {"top1": "maximize", "macs": "minimize"},
        "fidelity": Fidelity(full=900, rungs=1),
        **study,
    }
    own = Study(name="toy-study", desc="A test.", space="toy", task="ten", **whole)
    return Snapshot("toy-study", Path("runs/toy-study"), own, tuple(trials))


def planted(n=14, noise=0.02, seed=3):
    """Return rows on r = c^.1 and d = 1.1 c^.3 and beside it, scores rising with log c.

    For each budget one row near the planted values, one far behind, then four that miss them.
    """
    rng = np.random.default_rng(seed)
    rows, beside = [], []
    for c in np.geomspace(0.06, 1.0, n):
        best_r, best_d, top = c**0.1, 1.1 * c**0.3, 90 + 8 * math.log10(c)
        r, d = best_r + noise * rng.standard_normal(), best_d + noise * rng.standard_normal()
        rows.append((float(r), float(d), float(c), top))
        rows.append((1.2 - 0.8 * c, 0.4 + c, float(c), 60.0))  # another way to scale, much worse
        for sign in (1, -1, 1, -1):
            a, b = sign * rng.uniform(0.1, 0.2), rng.uniform(-0.35, 0.35)
            r, d = best_r * math.exp(a), best_d * math.exp(b)
            if r <= 1.3 and 0.35 <= d <= 1.6:
                lost = 120 * a**2 + 25 * b**2 + 0.3 * abs(rng.standard_normal())
                beside.append((float(r), float(d), float(c), top - lost))
    return rows + beside


def fitted(rows=None, space=Toy, **study):
    return rule(snapshot(rows or planted(), **study), space, Ten(), macs_of)


def test_a_planted_rule_is_recovered_inside_its_intervals():
    found = fitted()
    assert found.refused is None
    assert found.form == "crest"
    assert found.trials == 84
    assert len(found.points) == 14  # the other way to scale is far behind the front
    inside = 0
    for c in np.geomspace(0.08, 0.9, 10):
        at = found.predict(c * BASE)
        for axis, truth in (("r", c**0.1), ("d", 1.1 * c**0.3)):
            inside += at[axis]["low"] <= truth <= at[axis]["high"]
            assert at[axis]["value"] == pytest.approx(truth, abs=0.05)
    assert inside >= 18
    for forms in found.fits.values():
        assert forms["gp"].left_out < 0.05
        assert forms["power"].left_out < 0.05


def test_the_power_law_gives_back_exponent_and_interval():
    x = np.log(np.geomspace(0.05, 1, 20))
    fit = power(x, 0.8 * np.exp(0.25 * x))
    assert fit.parameters["a"] == pytest.approx(0.8)
    assert fit.parameters["b"] == pytest.approx(0.25)
    noisy = power(x, 0.8 * np.exp(0.25 * x + 0.05 * np.random.default_rng(0).standard_normal(20)))
    assert noisy.parameters["b_low"] < 0.25 < noisy.parameters["b_high"]


def test_the_process_follows_a_bent_curve_that_no_power_law_can():
    x = np.log(np.geomspace(0.05, 1, 24))
    y = 0.7 + 0.3 * np.tanh(3 * (x + 1.5))
    assert np.abs(left_out(gp, x, y)).max() < 0.3 * np.abs(left_out(power, x, y)).max()


@pytest.mark.parametrize("n", [6, 10, 20])
def test_intervals_hold_the_planted_curve_about_as_often_as_they_say(n):
    rng = np.random.default_rng(n)
    at = np.log(np.geomspace(0.08, 0.9, 7))
    truth = 0.7 + 0.2 * np.tanh(2 * (at + 1.2))
    inside = []
    for _ in range(40):
        x = np.sort(rng.uniform(math.log(0.06), 0, n))
        y = 0.7 + 0.2 * np.tanh(2 * (x + 1.2)) + 0.05 * rng.standard_normal(n)
        band = gp(x, y).predict(at)
        inside.append((band.low <= truth) & (truth <= band.high))
    assert 0.88 <= np.mean(inside) <= 1.0


def test_the_process_is_the_one_of_scikit_learn_at_its_own_length_and_noise():
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel

    x = np.log(np.geomspace(0.05, 1, 15))
    y = np.exp(0.2 * x) + 0.03 * np.random.default_rng(4).standard_normal(15)
    fit, at = gp(x, y), np.linspace(-3, 0, 9)
    found = fit.parameters
    kernel = ConstantKernel(found["signal"] ** 2, "fixed") * RBF(found["length"], "fixed")
    other = GaussianProcessRegressor(kernel, alpha=found["noise"] ** 2, optimizer=None)
    other.fit(x[:, None], y - y.mean())
    np.testing.assert_allclose(fit.predict(at).mean, other.predict(at[:, None]) + y.mean())


@pytest.mark.parametrize("form", FORMS)
def test_leave_one_out_is_fitting_again_without_each_point(form):
    found = fitted(planted(n=9))
    x = np.log([p.c for p in found.points])
    for axis, forms in found.fits.items():
        y = np.array([p.axes[axis] for p in found.points])
        errors = [
            FORMS[form](np.delete(x, i), np.delete(y, i)).predict(x[i : i + 1]).mean[0] - y[i]
            for i in range(len(x))
        ]
        assert forms[form].left_out == pytest.approx(np.sqrt(np.mean(np.square(errors))))


def test_an_interval_widens_away_from_the_points():
    x = np.log(np.geomspace(0.1, 1, 12))
    y = np.exp(0.2 * x) + 0.02 * np.random.default_rng(1).standard_normal(12)
    for form in (gp, power):
        band = form(x, y).predict(np.log(np.array([0.01, 0.3])))
        assert (band.high - band.low)[0] > 2 * (band.high - band.low)[1]


def test_values_that_do_not_move_or_repeat_a_budget_fit_without_a_warning():
    x = np.log(np.array([0.1, 0.1, 0.1, 0.1, 0.1, 0.5, 0.5, 1.0]))
    flat = np.full(8, 0.75)
    for form in FORMS.values():
        assert np.isfinite(left_out(form, x, flat)).all()
    assert gp(x, flat).predict(np.array([-1.0])).mean[0] == pytest.approx(0.75)


def test_the_published_points_fall_with_the_budget_and_the_process_reproduces_them():
    points = json.loads(GOLDEN.read_text())["points"]
    points.sort(key=lambda p: -p["macs"])
    base = json.loads(GOLDEN.read_text())["base_macs"]
    x = np.log([p["macs"] / base for p in points])
    for axis, most in (("r", 0.2), ("d", 0.2)):
        y = np.array([p[axis] for p in points])
        assert (np.diff(y) < 0).all()
        errors = left_out(gp, x, y)
        assert len(errors) == 5
        assert np.sqrt((errors**2).mean()) < most
        assert np.abs(gp(x, y).predict(x).mean - y).max() < 0.12


def test_only_trials_within_one_standard_error_of_the_front_are_used():
    assert binomial_error(90, 1000) == pytest.approx(100 * math.sqrt(0.09 / 1000))
    rows = planted()
    r, d, c, score = rows[4]
    within, beyond = (
        score - 0.9 * binomial_error(score, 1000),
        score - 1.1 * binomial_error(score, 1000),
    )
    found = fitted([*rows, (r, d, c, within), (r, d, c, beyond)])
    names = {p.trial for p in found.points}
    assert f"t{len(rows):04d}" in names
    assert f"t{len(rows) + 1:04d}" not in names
    kept = next(p for p in found.points if p.trial == f"t{len(rows):04d}")
    assert kept.behind == pytest.approx(0.9 * kept.error)


def test_other_scores_take_their_error_from_replicates():
    rows = planted(noise=0.0)
    run = snapshot(rows, objectives={"psnr": "maximize", "macs": "minimize"})
    first = run.trials[0]
    score = first.values["psnr"]
    twins = [
        replace(
            first,
            number=100 + i,
            replicate_of=0,
            rungs=(RungScore(0, 900, {**first.values, "psnr": score + s}),),
        )
        for i, s in enumerate((-0.3, 0.3))
    ]
    close = replace(
        first, number=200, rungs=(RungScore(0, 900, {**first.values, "psnr": score - 0.2}),)
    )
    alone = rule(replace(run, trials=(*run.trials, close)), Toy, Ten(), macs_of)
    assert "t0200" not in {p.trial for p in alone.points}
    known = rule(replace(run, trials=(*run.trials, *twins, close)), Toy, Ten(), macs_of)
    assert "t0200" in {p.trial for p in known.points}
    assert known.points[0].error == pytest.approx(0.3)


def test_seeds_that_differ_by_more_than_sampling_widen_the_error_of_top1():
    run = snapshot(planted())
    first = run.trials[0]
    twins = [
        replace(
            first,
            number=100 + i,
            replicate_of=0,
            rungs=(RungScore(0, 900, {**first.values, "top1": first.values["top1"] + s}),),
        )
        for i, s in enumerate((-5.0, 5.0))
    ]
    found = rule(replace(run, trials=(*run.trials, *twins)), Toy, Ten(), macs_of)
    assert all(p.error == pytest.approx(5.0) for p in found.points)
    alone = rule(run, Toy, Ten(), macs_of)
    assert max(p.error for p in alone.points) < 1.5


def test_too_few_points_are_refused_and_still_shown():
    found = fitted(planted(n=LEAST_POINTS - 1))
    assert "5 trials lie within one standard error" in found.refused
    assert len(found.to_json()["points"]) == 5
    with pytest.raises(NothingFeasible, match="a rule needs 6") as caught:
        scale(found, [BASE // 2])
    assert caught.value.exit_code == 3
    empty = rule(snapshot([]), Toy, Ten(), macs_of)
    assert "0 trials" in empty.refused
    json.dumps(empty.to_json(), allow_nan=False)
    assert "no rule" in str(empty)


def test_points_at_nearly_one_budget_are_refused():
    rows = [(0.8, 0.9, 0.5 + 0.001 * i, 80.0 + 0.01 * i) for i in range(9)]
    assert "span a factor 1.02" in fitted(rows).refused


def test_a_budget_far_outside_is_refused_and_one_just_outside_is_not():
    found = fitted()
    assert found.predict(1.3 * BASE)["r"]["value"] > 0.9
    with pytest.raises(NothingFeasible, match=r"fitted from 600,000 to 10,000,000 MACs"):
        scale(found, [2 * BASE])
    with pytest.raises(NothingFeasible, match="search there"):
        found.predict(0.03 * BASE)


def test_an_interval_wider_than_half_the_range_is_refused():
    rng = np.random.default_rng(0)
    rows = [
        (*rng.uniform((0.3, 0.4), (1.3, 1.6)), float(c), 90 + 8 * math.log10(c))
        for c in np.geomspace(0.06, 1.0, 40)
    ]
    found = fitted(rows)
    assert found.refused is not None
    assert "wider than half its range" in found.refused
    assert found.fits["r"]["gp"].left_out > 0.2  # what was seen is still there
    with pytest.raises(NothingFeasible, match="wider than half"):
        scale(found, [BASE // 3])


def test_scaling_gives_counted_candidates_and_the_null_beside_them():
    found = fitted()
    rows = scale(found, [1_000_000, 5_000_000])
    for row, budget in zip(rows, (1_000_000, 5_000_000), strict=True):
        candidate = Toy.from_json(row["candidate"])
        assert macs_of(candidate, SHAPE) == row["macs"]
        assert row["macs"] == pytest.approx(budget, rel=0.03)
        assert row["null"]["macs"] == pytest.approx(budget, rel=0.03)
        assert row["key"] == candidate.key(SHAPE)
        assert row["axes"]["r"]["low"] < candidate.r < row["axes"]["r"]["high"]
    small = rows[0]["null"]["axes"]
    phi = math.log(0.1) / math.log(1.2 * 1.1**2 * 1.15**2)
    assert small["r"] == pytest.approx(1.15**phi, abs=1e-3)
    json.dumps(rows, allow_nan=False)


def test_where_whole_steps_miss_the_budget_the_nearest_values_meet_it():
    class Stepped(Toy):
        name = "stepped"

        @classmethod
        def from_axes(cls, values, macs, shape):
            made = super().from_axes(values, macs, shape)
            return replace(made, w=round(made.w / 0.04) * 0.04)  # coarse width

    found = fitted(space=Stepped)
    moved = 0
    for budget in range(1_000_000, 9_000_000, 500_000):
        row = scale(found, [budget])[0]
        assert row["macs"] == pytest.approx(budget, rel=0.03)
        for axis, at in row["axes"].items():
            assert at["low"] - 0.063 <= at["taken"] <= at["high"] + 0.063  # 1/20 of its range
            assert row["candidate"][axis] == at["taken"]
            moved += at["taken"] != at["value"]
    assert moved > 0


def test_a_space_that_misses_the_budget_is_said_so():
    found = rule(snapshot(planted()), Toy, Ten(), lambda candidate, shape: 123)
    assert "over 3 % off" in found.null.reason
    with pytest.raises(
        NothingFeasible, match=r"no network at r = .* near these values.* over 3 % off"
    ):
        scale(found, [BASE // 2])


def test_a_space_without_a_customary_rule_has_no_null():
    found = fitted(space=NoNull)
    assert found.refused is None
    assert found.null.reason == "there is no customary rule here"
    row = scale(found, [BASE // 2])[0]
    assert row["null"] is None
    assert "no customary rule" in row["null_reason"]
    assert found.to_json()["null"]["error"] == {}


def test_the_json_holds_what_a_report_draws():
    found = fitted()
    data = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert data["form"] == found.form
    assert data["base_macs"] == BASE
    assert set(data["axes"]) == {"r", "d"}
    for forms in data["axes"].values():
        assert list(forms) == ["crest", "gp", "plain", "power"]
        for form in forms.values():
            curve = form["curve"]
            lengths = {len(curve[name]) for name in ("c", "mean", "low", "high")}
            assert lengths == {41}
        assert set(forms["crest"]["held_out"]) == {
            f"{end} {share}" for end in ("smallest", "largest") for share in ("tenth", "third")
        }
    # The compound rule makes small networks too coarse here.
    assert data["null"]["error"]["r"] > data["axes"]["r"]["gp"]["left_out"]
    assert data["null"]["c"] == pytest.approx([m / BASE for m in data["null"]["macs"]])
    assert data["fitted"] == [600_000, 10_000_000]
    text = str(found)
    assert "r: " in text
    assert "leave-one-out error" in text
    assert f"form taken: {found.form}" in text


def test_correlations_tell_axes_that_go_with_the_budget_from_those_that_do_not():
    found = fitted(planted(n=20))
    assert found.correlations["r"]["rho"] > 0.9
    assert found.correlations["r"]["p"] < 1e-3
    assert found.correlations["d"]["low"] > 0.8
    assert {"w", "open"} < set(found.correlations)
    assert correlations(found.points[:3]) == {}
    few = correlations(fitted(planted(n=5, noise=0.0)).points)["r"]
    assert few["rho"] == pytest.approx(1)
    assert few["low"] < 0.9  # five points in order by chance: 2 of 5! orders
    assert few["p"] == pytest.approx(2 / 120)


def test_a_fixed_field_reaches_every_candidate_and_the_base():
    small = fixed(Toy, {"size": "small"})
    assert small().size == "small"
    assert small.name == "toy"
    assert small().key(SHAPE) == Toy(size="small").key(SHAPE)
    found = fitted(fix={"size": "small"})
    assert found.setting.base_macs == BASE // 10
    assert scale(found, [1_000_000])[0]["candidate"]["size"] == "small"
    assert fixed(Toy, {}) is Toy


def test_fixing_a_field_of_one_value_per_stage():
    class Staged(Space):
        name = "staged"
        width: int = integer(8, 64, step=8, default=16)
        kernel: tuple[int, ...] = each(3, integer(3, 7, step=2, default=3))

    assert fixed(Staged, {"kernel": [3, 5, 7]})().kernel == (3, 5, 7)
    assert fixed(Staged, {"kernel.1": 7})().kernel == (3, 7, 3)
    assert fixed(Staged, {"kernel": 5, "width": 32})().kernel == (5, 5, 5)


def test_the_base_is_what_the_record_says_of_the_baseline():
    run = snapshot(planted())
    start = replace(run.trials[0], number=99, origin="start:baseline", card={"macs": 20_000_000})
    found = rule(replace(run, trials=(*run.trials, start)), Toy, Ten(), macs_of)
    assert found.setting.base_macs == 20_000_000


def test_narrowed_domains_narrow_the_range_of_an_axis():
    found = fitted(domains={"r": [0.5, 0.7]})
    assert found.spans == {"r": (0.5, 0.7), "d": (0.35, 1.6)}
    assert found.predict(0.9 * BASE)["r"]["value"] == 0.7


def test_a_space_without_axes_has_no_rule():
    class Plain(Space):
        name = "plain"
        width: int = integer(1, 9, default=1)

    with pytest.raises(SpaceError, match="declares no axes"):
        rule(snapshot([]), Plain, Ten(), macs_of)


def test_networks_are_built_and_counted_by_default():
    from torch import nn

    class Convolutional(Space):
        name = "convolutional"
        axes = ("width",)
        width: int = integer(4, 64, step=4, default=8)

        def build(self, shape):
            head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
            conv = nn.Conv2d(3, self.width, 3, padding=1, bias=False)
            return nn.Sequential(conv, head, nn.Linear(self.width, shape.classes))

    taken = setting_of(snapshot([]), Convolutional, Ten())
    assert taken.base_macs == 32 * 32 * 8 * 3 * 9 + 8 * 10
    width = taken.domains(snapshot([]).study)["width"]
    assert (width.lo, width.hi, width.step) == (4, 64, 4)
    assert counted_macs(Convolutional(width=4), SHAPE) == 32 * 32 * 4 * 3 * 9 + 4 * 10
