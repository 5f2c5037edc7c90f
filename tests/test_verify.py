"""Hit or miss: networks that a rule names are trained beside the null, and go on after a stop."""

import dataclasses
import json
import math

import pytest

from nasx import verify as module
from nasx.errors import NasxError
from nasx.printing_scale import verdicts
from nasx.results.evidence import evidence
from nasx.results.hits import Errors, front_score, verdict
from nasx.results.rule import rule
from nasx.study import Fidelity, Study
from nasx.trial import RungScore, Snapshot, State, Trial
from nasx.verify import verify
from tiny import Tiny, TinyDigits

FULL = 640


class Axed(Tiny):
    name = "axed"
    axes = ("width",)


def macs_of(candidate, shape):
    return 1000 * candidate.width**2


def run_of(path, **study):
    """Eight widths at full fidelity; top-1 rises with the MACs from 20 to 34."""
    trials = []
    for number, width in enumerate(range(4, 36, 4)):
        made = Axed(width=width)
        macs, top1 = macs_of(made, None), 20.0 + 2 * number
        trials.append(
            Trial(
                number=number,
                space="axed",
                candidate=made.values(),
                key=made.key(TinyDigits.shape),
                state=State.COMPLETE,
                rungs=(RungScore(0, FULL, {"top1": top1, "psnr": top1, "macs": macs}),),
                card={"macs": macs, "unpriced": []},
            )
        )
    whole = {"objectives": {"top1": "maximize", "macs": "minimize"}, **study}
    own = Study(
        name="verified", desc="A test.", space="axed", task="digits",
        fidelity=Fidelity(full=FULL, rungs=1), **whole,
    )  # fmt: skip
    return Snapshot("verified", path, own, tuple(trials))


def rows():
    """What `scale` would give: the rule's network, and another as the null of the first budget."""

    def network(width):
        made = Axed(width=width)
        return {
            "candidate": made.values(),
            "key": made.key(TinyDigits.shape),
            "macs": macs_of(made, None),
        }

    return [
        {"budget": 144_000, **network(12), "axes": {}, "null": network(8)},
        {"budget": 256_000, **network(16), "axes": {}, "null": None},
    ]


def verified(path, seeds=1, task=None, **study):
    run, digits = run_of(path, **study), task or TinyDigits()
    fitted = rule(run, Axed, digits, macs_of)
    return verify(fitted, rows(), run, seeds=seeds, task=digits)


def test_each_network_is_trained_and_judged_and_what_is_there_is_not_trained_again(tmp_path):
    first = verified(tmp_path)
    said = first[0]["verified"]
    assert said["score"] == "top1"
    assert 0 < said["rule"] <= 100
    assert said["front"] == pytest.approx(24.0)  # the third of the eight, at its very MACs
    assert said["gain"]["value"] == pytest.approx(said["rule"] - said["null"])
    assert said["to_front"]["low"] < said["to_front"]["value"] < said["to_front"]["high"]
    assert said["hit"] == (said["to_front"]["high"] >= 0)
    assert first[1]["verified"]["null"] is None
    kept = sorted((tmp_path / "verify").glob("*/result.json"))
    assert len(kept) == 3
    for file in kept:  # read, not trained: a score that no training gives
        result = json.loads(file.read_text())
        file.write_text(json.dumps({**result, "scores": {"top1": 7.25}}))
    again = verified(tmp_path)
    assert again[0]["verified"]["rule"] == 7.25
    assert again[0]["verified"]["hit"] is False
    told = verdicts(again)
    assert "budget 144,000: miss, top1 7.25; front 24, difference -16.8 [" in told
    assert "0 of 2 hit" in told
    assert "--seeds 3 adds the seeds" in told


def test_a_stopped_verification_goes_on_where_it_stood(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SAVE_EVERY", 0.0)

    class Counted(TinyDigits):
        def __init__(self, most):
            self.most, self.seen = most, 0

        def loss(self, output, batch):
            if self.seen == self.most:
                raise KeyboardInterrupt
            self.seen += 1
            return super().loss(output, batch)

    whole = Counted(10_000)
    straight = verified(tmp_path / "straight", task=whole)
    with pytest.raises(KeyboardInterrupt):
        verified(tmp_path / "stopped", task=Counted(17))  # in the middle of the second network
    assert list((tmp_path / "stopped" / "verify").glob("*/checkpoint"))
    rest = Counted(10_000)
    continued = verified(tmp_path / "stopped", task=rest)
    assert whole.seen == 3 * FULL // 64
    assert rest.seen == whole.seen - 17
    assert continued == straight
    assert not list((tmp_path / "stopped" / "verify").glob("*/checkpoint"))


def test_more_seeds_give_the_spread_from_seed_to_seed(tmp_path):
    said = verified(tmp_path, seeds=2)[0]["verified"]
    assert said["seed_spread"] > 0
    assert said["error"] > Errors(300, None).of(said["rule"], 2)
    assert len(list((tmp_path / "verify").glob("*-s1/result.json"))) == 3
    assert len(list((tmp_path / "verify").glob("*-s2/result.json"))) == 3


def test_a_score_without_a_known_error_needs_two_seeds(tmp_path):
    with pytest.raises(NasxError, match="repeat with --seeds 2 or more"):
        verified(tmp_path, objectives={"psnr": "maximize", "macs": "minimize"})
    assert not (tmp_path / "verify").exists()


def test_a_hit_is_what_both_errors_explain():
    errors = Errors(1000, None)
    one = errors.of(80.0, 1)
    assert one == pytest.approx(100 * math.sqrt(0.16 / 1000))
    near, far = 80 - 1.9 * one * math.sqrt(2), 80 - 2.1 * one * math.sqrt(2)
    assert verdict([near], None, 80.0, errors, 1.0)["hit"] is True
    assert verdict([far], None, 80.0, errors, 1.0)["hit"] is False
    assert verdict([far], None, None, errors, 1.0)["hit"] is None
    # A score to be minimized: more is worse.
    loss = Errors(0, 0.1)
    assert verdict([1.2], None, 1.0, loss, -1.0)["hit"] is True
    assert verdict([1.4], [1.9, 1.9], 1.0, loss, -1.0)["hit"] is False
    gain = verdict([1.4], [1.9, 1.9], 1.0, loss, -1.0)["gain"]
    assert gain["value"] == pytest.approx(0.5)
    assert gain["high"] - gain["low"] == pytest.approx(2 * 1.96 * 0.1 * math.sqrt(1.5))


def test_the_front_is_read_between_its_members(tmp_path):
    run = run_of(tmp_path)
    worse = dataclasses.replace(
        run.trials[0], number=50, rungs=(RungScore(0, FULL, {"top1": 1.0, "macs": 300_000}),)
    )
    fitted = rule(run, Axed, TinyDigits(), macs_of)
    known = evidence(dataclasses.replace(run, trials=(*run.trials, worse)), fitted.setting)
    middle = math.sqrt(144_000 * 256_000)
    assert front_score(known, middle, 1.0) == pytest.approx(25.0)
    assert front_score(known, 5_000_000, 1.0) == 34.0
    assert front_score(known, 15_000, 1.0) is None
