"""Costs and latencies of what a user names."""

import json

import pytest
from torch import nn

import nasx
from nasx import registry
from nasx.cost.onnxfile import timing_onnx
from nasx.errors import NasxError, SpaceError
from nasx.shape import TaskShape
from nasx.space import Published, Space, each, integer
from nasx.study import Study
from nasx.training import Training
from nasx.trial import RungScore, Snapshot, State, Trial
from tiny import Tiny, TinyDigits, finish

SMALL = TaskShape("classify", (3, 8, 8), 4)
TINY = TaskShape("classify", (3, 4, 4), 2)


class Plain(Space):
    """Two 1x1 layers, and a scaffold that is dropped when the network is deployed."""

    name = "plain"
    published = (Published("P", {"width": 16}, SMALL, None, None),)
    width: int = integer(8, 64, step=8, default=8)
    more: tuple[int, ...] = each(2, integer(1, 4, default=1))

    def build(self, shape):
        return nn.ModuleDict({"body": self.body(shape), "scaffold": nn.Linear(10, 9)})

    def body(self, shape):
        a, b = self.more
        return nn.Sequential(
            nn.Conv2d(shape.input[0], self.width * a, 1, bias=False),
            nn.Conv2d(self.width * a, b, 1, bias=False),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(b, shape.classes, bias=False),
        )

    def decide(self, model):
        return model["body"]


def macs(width, a, b, side, classes):
    return side * side * (3 * width * a + width * a * b) + b * classes


def test_the_baseline_is_counted_as_deployed_on_small_images():
    card = nasx.cost(Plain)
    assert card.macs == macs(8, 1, 1, 64, 10)
    assert (card.input, card.params_trained - card.params) == ((3, 64, 64), 99)


def test_values_are_set_by_field_or_flat_name_and_a_task_gives_the_shape():
    card = nasx.cost(Plain, values={"width": 16, "more.1": 3}, task=TINY)
    assert card.macs == macs(16, 1, 3, 4, 2)
    assert nasx.cost(Plain(width=16, more=(2, 1)), task=TINY).macs == macs(16, 2, 1, 4, 2)


def test_a_published_point_has_its_own_shape(monkeypatch):
    monkeypatch.setattr(registry, "space", {"plain": Plain}.__getitem__)
    assert nasx.cost("plain", published="P").macs == macs(16, 1, 1, 8, 4)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"published": "Q"}, "no published point 'Q'; valid are P"),
        ({"values": {"widht": 8}}, "no field 'widht'; did you mean 'width'"),
        ({"values": {"width": 9}}, "Plain.width = 9 is outside"),
        ({"values": {"more.7": 1}}, "no field 'more.7'"),
    ],
)
def test_what_is_not_there_is_refused(asked, message):
    with pytest.raises(SpaceError, match=message):
        nasx.cost(Plain, **asked)


def test_measuring_one_file(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(timing_onnx(Plain().body(SMALL), (3, 8, 8), 2))
    (row,) = nasx.measure(path, batch=2, raw=tmp_path / "latency.jsonl")
    assert (row["network"], row["batch"], row["samples"]) == ("net.onnx", 2, 36)
    assert (tmp_path / "latency.jsonl").read_text().count("\n") == 10
    with pytest.raises(NasxError, match=r"cannot measure with .*threads"):
        nasx.measure(path, threads=0)
    path.write_bytes(b"not a model")
    with pytest.raises(NasxError, match="the latency probe: "):
        nasx.measure(path)
    with pytest.raises(NasxError, match=r"gone.onnx: cannot be read"):
        nasx.measure(tmp_path / "gone.onnx")


def test_measuring_a_run_times_the_deployed_networks_of_its_front(tmp_path, monkeypatch):
    task, trials = TinyDigits(), []
    study = Study(
        name="s",
        desc="d",
        space="tiny",
        task="tiny-digits",
        objectives={"top1": "maximize", "macs": "minimize"},
        fidelity={"full": 64, "rungs": 1},
        measure={"runtime": "eager", "batch": 2},
    )
    (tmp_path / "resolved.yaml").write_text(json.dumps(study.resolved()))
    for number, (width, top1) in enumerate([(4, 50.0), (32, 80.0), (8, 40.0)]):
        candidate = Tiny(width=width)
        training = finish(Training(candidate, task, full=64, seed=0))
        training.score()
        training.save(tmp_path / "trials" / f"t{number:04d}" / "checkpoint")
        card = nasx.cost(candidate, task=task)
        values = {"top1": top1, "macs": float(card.macs)}
        trials.append(
            Trial(
                number=number,
                space="tiny",
                candidate=candidate.values(),
                key=candidate.key(task.shape),
                state=State.COMPLETE,
                rungs=(RungScore(0, 64, values),),
                card=card.to_json(),
            )
        )

    class Kept(nasx.Run):
        def snapshot(self):
            return Snapshot("s", self.path, study, tuple(trials))

    monkeypatch.setattr(registry, "space", lambda name, base=None: Tiny)
    monkeypatch.setattr(registry, "task", lambda spec, base=None: task)
    rows = nasx.measure(Kept(tmp_path))
    assert [row["network"] for row in rows] == ["t0000", "t0001"]  # t0002 is dominated
    assert {(row["runtime"], row["batch"]) for row in rows} == {("eager", 2)}
    assert nasx.measure(Kept(tmp_path), batch=1)[0]["batch"] == 1
    trials.clear()
    with pytest.raises(NasxError, match="front is empty"):
        nasx.measure(Kept(tmp_path))
