"""Assets are trained once, whoever asks, and loaded strictly."""

import json
import multiprocessing
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from nasx.assets import Asset, load_asset, load_assets, obtain
from nasx.errors import NasxError
from nasx.recipe import Phase, Recipe, Step
from tiny import Tiny, TinyDigits

torch.set_num_threads(1)
TASK = TinyDigits()


class Logged(Tiny):
    """Writes a line for every training that begins."""

    name = "logged"
    log = Path()

    def recipe(self, shape) -> Recipe:
        def begin(state) -> None:
            with self.log.open("a") as file:
                file.write(f"{os.getpid()}\n")

        return Recipe((Phase("train", 1.0, (Step(),), begin=begin),))


class Needing(Tiny):
    """Starts from a trained network."""

    name = "needing"

    def needs(self, shape) -> dict[str, Asset]:
        return {"dense": Asset(Tiny(), 128)}


def test_an_asset_is_trained_once_and_says_what_it_cost(tmp_path: Path) -> None:
    asset = Asset(Tiny(), 200, seed=2)
    path = obtain(asset, tmp_path, TASK)
    assert path == tmp_path / f"{asset.key(TASK.shape)}.safetensors"
    before = path.stat().st_mtime_ns
    assert obtain(asset, tmp_path, TASK) == path
    assert path.stat().st_mtime_ns == before
    note = json.loads(path.with_suffix(".json").read_text())
    assert (note["samples"], note["space"], note["seed"]) == (200, "tiny", 2)
    assert note["candidate"] == Tiny().values()
    assert note["cpu_seconds"] > 0
    assert note["recipe"]["batch"] == 64
    assert 0 <= note["scores"]["top1"] <= 100


def test_the_network_is_the_trained_one(tmp_path: Path) -> None:
    asset = Asset(Tiny(rate=0.02), 3000)
    network = load_assets({"net": asset}, {}, tmp_path, TASK)["net"]
    assert not network.training
    path = tmp_path / f"{asset.key(TASK.shape)}.safetensors"
    assert (
        TASK.score(network, "valid", (1, 8, 8))
        == json.loads(path.with_suffix(".json").read_text())["scores"]
    )


def test_the_key_depends_on_candidate_samples_and_seed() -> None:
    assets = [
        Asset(Tiny(), 200),
        Asset(Tiny(), 201),
        Asset(Tiny(), 200, 1),
        Asset(Tiny(width=4), 200),
    ]
    assert len({asset.key(TASK.shape) for asset in assets}) == 4


def ask(folder: Path, barrier, answers) -> None:
    barrier.wait()
    answers.put(str(obtain(Asset(Logged(), 1000), folder, TASK)))


def test_of_two_processes_one_trains_and_the_other_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Logged, "log", tmp_path / "log")
    context = multiprocessing.get_context("fork")  # both know the class above
    barrier, answers = context.Barrier(2), context.Queue()
    both = [
        context.Process(target=ask, args=(tmp_path / "assets", barrier, answers)) for _ in range(2)
    ]
    for process in both:
        process.start()
    paths = {answers.get(timeout=60) for _ in both}
    for process in both:
        process.join()
        assert process.exitcode == 0
    assert len(paths) == 1
    assert len((tmp_path / "log").read_text().split()) == 1


def test_an_interrupted_training_of_an_asset_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset = Asset(Tiny(), 128)
    with monkeypatch.context() as patch:
        patch.setattr(TinyDigits, "loss", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            obtain(asset, tmp_path, TASK)
    assert not list(tmp_path.glob("*.safetensors"))
    assert obtain(asset, tmp_path, TASK).is_file()


def test_an_asset_may_need_another(tmp_path: Path) -> None:
    load_assets({"outer": Asset(Needing(), 128)}, {}, tmp_path, TASK)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


def test_a_supplied_file_is_taken_and_nothing_trained(tmp_path: Path) -> None:
    asset = Asset(Tiny(), 128)
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(obtain(asset, tmp_path / "a", TASK).read_bytes())
    network = load_assets({"dense": asset}, {"dense": str(mine)}, tmp_path / "b", TASK)["dense"]
    assert torch.equal(network.head.weight, load_file(mine)["head.weight"])
    assert not (tmp_path / "b").exists()


def test_a_supplied_file_that_does_not_fit_is_explained(tmp_path: Path) -> None:
    asset, mine = Asset(Tiny(), 128), tmp_path / "mine.safetensors"
    tensors = load_file(obtain(asset, tmp_path, TASK))
    del tensors["head.bias"]
    tensors["head.weight"] = tensors["head.weight"][:5].contiguous()
    save_file(tensors | {"extra": torch.zeros(1)}, mine)
    words = (
        r"mine\.safetensors does not fit the network: missing: head\.bias; unexpected: extra; "
        r"of another shape: head\.weight is \(5, 8\), not \(10, 8\)"
    )
    with pytest.raises(NasxError, match=words):
        load_asset(asset, mine, TASK.shape)


def test_a_supplied_file_that_is_missing_or_no_safetensors_is_named(tmp_path: Path) -> None:
    asset, mine = Asset(Tiny(), 128), tmp_path / "mine.safetensors"
    with pytest.raises(NasxError, match="there is no such asset"):
        load_asset(asset, mine, TASK.shape)
    mine.write_bytes(b"not at all")
    with pytest.raises(NasxError, match="cannot be read"):
        load_asset(asset, mine, TASK.shape)
