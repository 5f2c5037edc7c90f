"""A trained network leaves as files that compute what was scored without nasx, or not at all."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from made_record import study, trial
from mobile import Mobile
from nasx import bundle, modelfile
from nasx.cost import onnxfile
from nasx.errors import NasxError, ParityError
from nasx.export import chosen, destination, export
from nasx.networkfiles import exported
from nasx.registry import task
from nasx.tasks.spread import spread_samples
from nasx.training import Training
from nasx.trial import Final, RungScore, Snapshot, State, Trial

DIGITS = task("digits")
LATENCY = {
    "median_ms": 0.25, "min_ms": 0.2, "q1_ms": 0.24, "q3_ms": 0.26, "contended": False,
    "same_as": ["t0007"],
    "runtime": "onnxruntime", "device": "cpu", "batch": 1, "threads": 1,
}  # fmt: skip


def finished(path: Path) -> Snapshot:
    """A run of one trial, really trained (for a moment) and scored."""
    candidate = Mobile()
    training = Training(candidate, DIGITS, full=192, seed=3)
    for _ in training.run(192):
        pass
    training.save(path / "trials" / "t0000" / "checkpoint")
    static = {"macs": 1e5, "adds": 3e3, "shifts": 0.0, "params": 1e3, "bytes": 4e3}
    only = Trial(
        number=0,
        space=f"{Path(__file__).with_name('mobile.py')}:Mobile",
        candidate=candidate.values(),
        key=candidate.key(DIGITS.shape),
        state=State.COMPLETE,
        seed=3,
        rungs=(RungScore(0, 192, {**training.score("valid"), **static}),),
        card={**static, "unpriced": []},
    )
    asked = study(
        space=only.space, task="digits", constraints={}, fidelity={"full": 192, "rungs": 1},
        objectives={"top1": "maximize", "macs": "minimize"},
    )  # fmt: skip
    final = Final(0, "front", training.score("test"), LATENCY)
    return Snapshot(
        "made", path, asked, (only,), finals={0: final},
        provenance={"machine": {"cpu": "A processor"}, "versions": {"torch": "2"}},
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return finished(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def made(run: Snapshot) -> Path:
    return export(run, "best")


def digests(folder: Path) -> dict[str, str]:
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.iterdir()}


def test_the_bundle_is_whole_and_its_sums_hold(run: Snapshot, made: Path) -> None:
    assert made == run.path / "exports" / "t0000"
    assert [f.name for f in made.parent.iterdir()] == ["t0000"]
    found = digests(made)
    assert set(found) == set(bundle.FILES)
    sums = (made / "SHA256SUMS").read_text().splitlines()
    assert sums == [f"{found[name]}  {name}" for name in sorted(found) if name != "SHA256SUMS"]


def test_parity_holds_for_every_file_without_nasx(made: Path) -> None:
    parity = json.loads((made / "parity.json").read_text())
    assert parity["nasx_importable"] is False
    assert parity["inputs"] == 64
    assert parity["batches"] == [1, 64]
    assert set(parity["files"]) == {"model.onnx", "model.pt2", "model.py"}
    for row in parity["files"].values():
        assert row["pass"] is True
        assert row["max_relative"] <= parity["tolerance"] == 1e-4
        assert row["top1_agreement"] == 1.0


def test_the_architecture_rebuilds_the_network(run: Snapshot, made: Path) -> None:
    about = json.loads((made / "architecture.json").read_text())
    again = Mobile.from_json(about["candidate"])
    assert again.key(DIGITS.shape) == about["key"]
    assert about["input"] == [1, 8, 8]
    assert about["classes"] == [str(i) for i in range(10)]
    assert about["recipe"]["phases"][0]["share"] == 1.0
    assert about["decisions"] == {}
    assert about["constants"] == []
    network = again.build(DIGITS.shape)
    network.load_state_dict(load_file(made / "weights.safetensors"))
    valid = DIGITS.score(network.eval(), "valid", (1, 8, 8))
    assert valid["top1"] == about["valid"]["top1"] == run.trials[0].values["top1"]


def test_model_py_runs_alone(made: Path) -> None:
    source = (made / "model.py").read_text()
    assert "nasx" not in source.replace("nasx_", "")
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(source))
        for name in (
            [a.name for a in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported == {"pathlib", "torch", "safetensors"}
    assert max(map(len, source.splitlines())) <= 100
    done = subprocess.run(
        [sys.executable, "-I", "-B", made / "model.py"], cwd="/", capture_output=True, text=True
    )
    params = sum(p.numel() for p in Mobile().build(DIGITS.shape).parameters())
    assert done.stdout == f"{params} parameters\ninput (1, 1, 8, 8), output (1, 10)\n"


def test_the_card_states_its_numbers_and_its_code_works(
    run: Snapshot, made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    card = (made / "card.md").read_text()
    top1, n = run.finals[0].test["top1"], DIGITS.size("test")
    error = 100 * (top1 / 100 * (1 - top1 / 100) / n) ** 0.5
    assert f"| test | {n} | top1 {top1:.2f} % ± {error:.2f} " in card
    assert "Latency 0.250 ms" in card
    assert "It cannot be told from that of t0007." in card
    assert "A processor" in card
    assert Mobile.cautions[0] in card
    assert "100,000 MACs, 3,000 additions, 1,000 parameters" in card
    mean = DIGITS.preprocessing((1, 8, 8))["mean"][0]  # type: ignore[attr-defined]
    assert f"mean {mean:.9g}" in card
    blocks = re.findall(r"```python\n(.*?)```", card, re.S)
    assert len(blocks) == 3
    monkeypatch.chdir(made)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(str(made))
    outputs = []
    for code in blocks:
        names: dict[str, Any] = {}
        exec(code, names)
        outputs.append(names["output"])
    assert outputs[0].shape == (1, 10)
    torch.testing.assert_close(outputs[1], outputs[2], rtol=1e-4, atol=1e-4)
    assert capsys.readouterr().out
    monkeypatch.delitem(sys.modules, "model")


def test_the_card_prepares_images_as_the_task_does(made: Path) -> None:
    """Pixels through the card's formula give the inputs that the task gives."""
    known = json.loads((made / "architecture.json").read_text())["preprocessing"]
    images = DIGITS.data.splits["valid"].images[:5]  # type: ignore[attr-defined]
    mean, deviation = (torch.tensor(known[k]) for k in ("mean", "deviation"))
    ours = ((torch.from_numpy(images.copy()) - mean) / deviation).permute(0, 3, 1, 2)
    batch = next(iter(DIGITS.batches("valid", (1, 8, 8), 5)))
    torch.testing.assert_close(ours, batch.inputs, rtol=1e-5, atol=1e-5)


def test_two_exports_write_the_same_source_and_weights(run: Snapshot, made: Path) -> None:
    from nasx.readback import load_deployed

    network = load_deployed(Mobile(), DIGITS.shape, run.path / "trials" / "t0000" / "checkpoint")
    inputs = spread_samples(DIGITS, (1, 8, 8), 4)
    program = exported(network, inputs)
    title = "t0000 of study made: a network of the space mobile"
    assert modelfile.model_source(program, title) == (made / "model.py").read_text()
    kept = load_file(made / "weights.safetensors")
    again = modelfile.stored_tensors(program)
    assert kept.keys() == again.keys()
    assert all(torch.equal(kept[name], again[name]) for name in kept)


def test_a_miss_fails_loudly_and_keeps_the_old_bundle(
    run: Snapshot, made: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    true, before = modelfile.stored_tensors, digests(made)
    onnx = (made / "model.onnx").read_bytes()

    def altered(program: torch.export.ExportedProgram) -> dict[str, torch.Tensor]:
        found = true(program)
        found["stem.0.weight"][0, 0, 0, 0] += 0.01
        return found

    def truncated(model: object, shape: object, path: Path, *, any_size: bool) -> None:
        path.write_bytes(onnx[:-100])

    monkeypatch.setattr(modelfile, "stored_tensors", altered)
    monkeypatch.setattr(onnxfile, "write_onnx", truncated)
    monkeypatch.chdir(run.path.parent)
    with pytest.raises(ParityError) as caught:
        export(dataclasses.replace(run, path=Path(run.path.name)), "t0000")
    told = str(caught.value)
    assert re.search(r"model\.py does not compute what was scored: it differs by 0\.\d", told)
    assert re.search(r"model\.onnx does not compute what was scored: it cannot be run", told)
    assert "model.pt2" not in told
    assert "\n" not in told
    assert caught.value.exit_code == 4
    assert digests(made) == before
    assert [f.name for f in made.parent.iterdir()] == ["t0000"]
    assert capfd.readouterr() == ("", "")


def test_a_folder_of_other_things_is_never_replaced(run: Snapshot, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(NasxError, match=r"holds 'thesis\.tex', which is not part of a bundle"):
        export(run, "best", tmp_path)
    with pytest.raises(NasxError, match="is not a folder"):
        export(run, "best", tmp_path / "thesis.tex")
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_only_complete_trials_with_weights_leave(run: Snapshot, tmp_path: Path) -> None:
    trials = (
        trial(0),
        trial(1, state=State.STOPPED, rungs=1),
        trial(2, state=State.FAILED, rungs=0, reason="out of memory"),
    )
    some = Snapshot("made", tmp_path, study(), trials)
    assert chosen(some, "t0000").number == 0
    assert chosen(some, "knee").number == 0
    with pytest.raises(NasxError, match="t0001 is STOPPED; only a COMPLETE trial"):
        chosen(some, "t0001")
    with pytest.raises(NasxError, match=r"t0002 is FAILED \(out of memory\)"):
        chosen(some, "t0002")
    with pytest.raises(NasxError, match="no trial t0009"):
        chosen(some, "t0009")
    with pytest.raises(NasxError, match="say knee, best, smallest or one of t0000"):
        chosen(some, "biggest")
    bare = Snapshot("made", tmp_path, run.study, run.trials)
    with pytest.raises(NasxError, match="checkpoint"):
        export(bare, "t0000")
    assert not (tmp_path / "exports").exists()


def test_the_default_folder_stays_inside_the_run(run: Snapshot, tmp_path: Path) -> None:
    inside, outside = tmp_path / "run", tmp_path / "elsewhere"
    inside.mkdir()
    outside.mkdir()
    (inside / "exports").symlink_to(outside)
    linked = Snapshot("made", inside, run.study, run.trials)
    with pytest.raises(NasxError, match="leads out of the run's folder"):
        destination(linked, run.trials[0], None)
    assert destination(linked, run.trials[0], outside / "x") == outside / "x"


def test_samples_are_spread_over_the_whole_split() -> None:
    every = next(iter(DIGITS.batches("valid", (1, 8, 8), 300))).inputs
    some = spread_samples(DIGITS, (1, 8, 8), 64)
    assert some.shape == (64, 1, 8, 8)
    assert torch.equal(some[0], every[0])
    assert torch.equal(some[-1], every[-1])
    many = spread_samples(DIGITS, (1, 8, 8), 1000)  # beyond the valid split, training samples
    assert len(many) == 1000
    assert torch.equal(many, spread_samples(DIGITS, (1, 8, 8), 1000))
    everything = DIGITS.size("valid") + DIGITS.size("train")
    assert len(spread_samples(DIGITS, (1, 8, 8), 10**6)) <= everything


def test_a_full_disk_is_refused_before_anything_is_written(
    run: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nasx.files.free_bytes", lambda _: 10**6)
    with pytest.raises(NasxError, match=r"nearly full \(1 MiB left, 16 needed\)"):
        export(run, "knee", tmp_path / "deep" / "bundle")
    assert not (tmp_path / "deep").exists()


def test_a_knee_that_is_none_says_so(
    run: Snapshot, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="nasx"):
        assert chosen(run, "knee").name in caplog.text
    assert "a knee needs more" in caplog.text
