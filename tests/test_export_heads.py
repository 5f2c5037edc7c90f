"""A network of several heads leaves as files of each; one of fixed input takes any image."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from made_record import study
from nasx import bundle as bundles
from nasx import cost, parity
from nasx.bundle import bundle
from nasx.errors import NasxError
from nasx.export import export
from nasx.exportheads import samples_by_head
from nasx.modelcard import About
from nasx.onehead import heads_to_export, one_head
from nasx.paritycheck import compare_tiles
from nasx.registry import task
from nasx.shape import TaskShape
from nasx.tasks.base import Batch, answer
from nasx.tasks.tiles import tiled
from nasx.training import Training
from nasx.trial import RungScore, Snapshot, State, Trial
from tiny import finish
from tinyrestore import Named, Side

HEADS = ("x2", "denoise30")
SPEC = {"name": "photos", "degradations": list(HEADS), "patch": 16, "patches": 64}
PHOTOS: Any = task(SPEC)
KINDS = ("onnx", "pt2", "py")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    path = tmp_path_factory.mktemp("run")
    training = finish(Training(Side(width=4), PHOTOS, full=64, seed=0))
    training.save(path / "trials" / "t0000" / "checkpoint")
    card = cost(Side(width=4), task=PHOTOS.shape)
    static = {name: card.axis(name) for name in ("macs", "params", "bytes", "energy_uj")}
    only = Trial(
        number=0,
        space=f"{Path(__file__).with_name('tinyrestore.py')}:Side",
        candidate={"width": 4},
        key=Side(width=4).key(PHOTOS.shape),
        state=State.COMPLETE,
        rungs=(RungScore(0, 64, {**training.score("valid"), **static}),),  # type: ignore[dict-item]
        card={**static, "unpriced": []},
    )
    asked = study(
        space=only.space, task=SPEC, constraints={}, fidelity={"full": 64, "rungs": 1},
        objectives={"psnr": "maximize", "macs": "minimize"},
    )  # fmt: skip
    return Snapshot("made", path, asked, (only,))


@pytest.fixture(scope="module")
def made(run: Snapshot) -> Path:
    return export(run, "best")


def network_of(run: Snapshot) -> nn.Module:
    from nasx.readback import deployed_network

    return deployed_network(
        Side(width=4), PHOTOS, run.path / "trials" / "t0000" / "checkpoint"
    ).eval()


def test_every_head_has_files_of_its_own_beside_one_of_weights(made: Path) -> None:
    mine = {f"model_{head}.{kind}" for head in HEADS for kind in KINDS}
    shared = {"architecture.json", "card.md", "parity.json", "weights.safetensors", "SHA256SUMS"}
    found = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in made.iterdir()}
    assert set(found) == mine | shared
    sums = (made / "SHA256SUMS").read_text().splitlines()
    assert sums == [f"{found[name]}  {name}" for name in sorted(found) if name != "SHA256SUMS"]


def test_parity_is_checked_head_by_head_and_in_tiles(made: Path) -> None:
    parity = json.loads((made / "parity.json").read_text())
    assert parity["nasx_importable"] is False
    assert set(parity["heads"]) == set(HEADS)
    assert {row["inputs"] for row in parity["heads"].values()} == {64}
    assert set(parity["files"]) == {f"model_{head}.{kind}" for head in HEADS for kind in KINDS}
    for name, row in parity["files"].items():
        assert row["pass"] is True
        assert row["max_relative"] <= 1e-4
        assert ("tiled" in row) == name.endswith(".py")
    assert parity["files"]["model_x2.py"]["tiled"]["size"] == [24, 32]


def test_the_weights_are_those_of_the_whole_network(run: Snapshot, made: Path) -> None:
    about = json.loads((made / "architecture.json").read_text())
    assert list(about["heads"]) == list(HEADS)
    own = network_of(run)
    again = Side(**about["candidate"]).build(PHOTOS.shape)
    again.load_state_dict(load_file(made / "weights.safetensors"))
    batch = next(PHOTOS.batches("valid", (3, 16, 16), 4))
    for head in HEADS:
        assert torch.equal(again.eval()(batch.inputs, head), own(batch.inputs, head))
        known = about["heads"][head]
        scale = 2 if head == "x2" else 1
        assert known["macs"] == 256 * (9 * 3 * 4 + 9 * 4 * 3 * scale**2)
        source = parity.loaded(made / f"model_{head}.py").Model().eval()
        assert sum(p.numel() for p in source.parameters()) == known["params"]
        assert torch.allclose(source(batch.inputs), own(batch.inputs, head), atol=1e-6)


RESTORING = """
import sys, numpy, torch
sys.path.insert(0, sys.argv[1])
assert not [m for m in sys.modules if m.startswith("nasx")]
from model_x2 import Model, restore
image = torch.from_numpy(numpy.load(sys.argv[2]))
whole, calls = restore(image), []
def network(tiles):
    calls.append(len(tiles))
    return Model().eval()(tiles)
assert torch.equal(restore(image, network), whole)
assert sum(calls) > 100 and max(calls) == 64
numpy.save(sys.argv[3], whole.numpy())
"""


def test_the_recipe_for_any_size_restores_as_the_task_does(
    run: Snapshot, made: Path, tmp_path: Path
) -> None:
    head = PHOTOS.heads[0]
    image = PHOTOS.pairs("valid", head).input(0)
    assert image.shape == (150, 225, 3)
    inputs = torch.from_numpy(image.copy()).float().mul(1 / 255).permute(2, 0, 1).contiguous()
    np.save(tmp_path / "image.npy", inputs.numpy())
    files = [made, tmp_path / "image.npy", tmp_path / "answer.npy"]
    command = [sys.executable, "-I", "-B", "-c", RESTORING, *map(str, files)]
    subprocess.run(command, check=True, cwd=tmp_path)
    answered = torch.from_numpy(np.load(tmp_path / "answer.npy"))
    with torch.no_grad():
        wanted = PHOTOS.restored(network_of(run), "valid", head, 0)
    assert answered.shape == wanted.shape == (3, 300, 450)
    torch.testing.assert_close(answered, wanted, atol=1e-5, rtol=0)


def test_the_card_lists_the_heads_and_its_code_works(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = (made / "card.md").read_text()
    assert "| x2 | 138,240 | " in card
    assert "2 times as high and wide, or of the same size" in card
    assert "head `x2`: 138,240 MACs" in card
    assert "`restore` of model_denoise30.py, on an image of 24 x 32: " in card
    blocks = re.findall(r"```python\n(.*?)```", card, re.S)
    monkeypatch.chdir(made)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(str(made))
    shapes = []
    for code in blocks:
        names: dict[str, Any] = {}
        exec(code, names)
        shapes.append(tuple(names["output"].shape))
    assert shapes == [(1, 3, 32, 32)] * 3 + [(3, 200, 300)]
    monkeypatch.delitem(sys.modules, "model_x2")


def test_one_head_may_leave_alone(run: Snapshot, tmp_path: Path) -> None:
    folder = export(run, "t0000", tmp_path / "it", head="denoise30")
    assert {f.name for f in folder.iterdir()} == set(bundles.FILES)
    about = json.loads((folder / "architecture.json").read_text())
    assert about["costs"]["macs"] == 256 * (9 * 3 * 4 + 9 * 4 * 3)
    assert about["valid"]["psnr"] == run.trials[0].values["psnr_denoise30"]
    assert about["preprocessing"]["scales"] == [1]
    assert "lasts.x2.weight" not in load_file(folder / "weights.safetensors")
    with pytest.raises(NasxError, match=r"not trained for a head 'x3': it has x2, denoise30") as no:
        export(run, "t0000", tmp_path / "no", head="x3")
    assert "\n" not in str(no.value)
    assert not (tmp_path / "no").exists()


def test_a_head_is_named_only_where_there_are_several() -> None:
    many = Named(4, ("x2", "x3"), ("x2",))
    two, one = (TaskShape("restore", (3, 16, 16), heads) for heads in (("x2", "x3"), ("x2",)))
    assert heads_to_export(many, two, None) == ("x2", "x3")
    assert heads_to_export(many, one, None) == ("x2",)
    assert heads_to_export(Named(4, ("x2",), ("x2",)), one, "x2") == ()
    digits = TaskShape("classify", (1, 8, 8), 10)
    with pytest.raises(NasxError, match="a head 'x2': it has no heads by name"):
        heads_to_export(nn.Flatten(), digits, "x2")


def test_a_recipe_that_cuts_otherwise_is_a_miss(run: Snapshot, made: Path, tmp_path: Path) -> None:
    network = one_head(network_of(run), "x2", torch.zeros(2, 3, 16, 16))
    image = torch.rand(3, 24, 30, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = tiled(network, image[None], 16, 8, 2, 2)[0]
    case = SimpleNamespace(image=[image, wanted])
    assert "pass" not in compare_tiles(parity, made / "model_x2.py", case)
    source = (made / "model_x2.py").read_text()
    (tmp_path / "weights.safetensors").write_bytes((made / "weights.safetensors").read_bytes())
    for border, scale, said in (
        (0, 2, "tiles it differs by 0"),
        (2, 3, "scored: restore cannot be run: The size of tensor"),
    ):
        text = source.replace(
            "BORDER, SCALE = 16, 8, 2, 2", f"BORDER, SCALE = 16, 8, {border}, {scale}"
        )
        (tmp_path / "model.py").write_text(text)
        row = {"pass": True, "max_abs": 0.0, "max_relative": 0.0}
        row |= compare_tiles(parity, tmp_path / "model.py", case)
        assert row["pass"] is False
        assert re.search(said, bundles._told("model.py", row))


def test_samples_of_a_head_are_spread_and_filled_up() -> None:
    some = samples_by_head(PHOTOS, (3, 16, 16), HEADS, 64)
    every = {head: [] for head in HEADS}  # type: ignore[var-annotated]
    for batch in PHOTOS.batches("valid", (3, 16, 16), 50):
        every[batch.head].append(batch.inputs)
    for head in HEADS:
        whole = torch.cat(every[head])
        assert torch.equal(some[head][0], whole[0])
        assert torch.equal(some[head][-1], whole[-1])
        many = samples_by_head(PHOTOS, (3, 16, 16), HEADS, len(whole) + 8)[head]
        assert len(many) == len(whole) + 8
    with pytest.raises(NasxError, match="no sample for the head 'x4'"):
        samples_by_head(PHOTOS, (3, 16, 16), ["x4"], 8)


class Looking(nn.Module):
    """Looks at every head's weights, whichever is asked."""

    heads = ("a", "b")

    def __init__(self) -> None:
        super().__init__()
        self.tails = nn.ModuleDict({"a": nn.Linear(3, 2), "b": nn.Linear(3, 4)})

    def forward(self, x: Tensor, head: str = "") -> Tensor:
        sizes = [len(tail.weight) for tail in self.tails.values()]  # type: ignore[arg-type]
        answered: Tensor = self.tails[head or "a"](x)
        return answered / sum(sizes)


def test_a_network_that_looks_at_all_heads_keeps_them() -> None:
    network, x = Looking(), torch.randn(2, 3)
    shape = TaskShape("restore", (3,), ("a", "b"))
    for head in ("a", "b"):
        single = one_head(network, head, x)
        assert torch.equal(single(x), answer(network, Batch(x, {}, head), shape))
        assert single.state_dict().keys() == network.state_dict().keys()
    lean = one_head(Named(4, ("x2", "x3"), ("x2",)), "x3", torch.rand(2, 3, 8, 8))
    assert sorted(lean.state_dict()) == [
        "body.0.bias", "body.0.weight", "lasts.x3.bias", "lasts.x3.weight"
    ]  # fmt: skip


class Wired(nn.Conv2d):
    """Works at any size, which torch.export cannot follow."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (1.0 if int(x.shape[-1]) % 2 == 0 else 2.0)


def test_an_export_of_one_size_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spec = {"name": "photos", "degradations": ["denoise30"], "patch": 16, "patches": 64}
    noisy: Any = task(spec)
    about = About("made", "t0000", "odd", {}, "k", preprocessing=noisy.preprocessing((3, 16, 16)))
    inputs = samples_by_head(noisy, (3, 16, 16), ["denoise30"], 8)["denoise30"]
    with caplog.at_level("WARNING", logger="nasx"):
        folder = bundle(Wired(3, 3, 3, padding=1).eval(), about, tmp_path / "it", inputs)
    assert "takes images of one size only: " in caplog.text
    assert "any batch size N. No other size: " in (folder / "card.md").read_text()
    assert json.loads((folder / "parity.json").read_text())["other_size"] is None


def test_costs_of_several_heads_are_those_of_the_first() -> None:
    card = cost(Side(width=4), task=PHOTOS.shape)
    assert card.macs == 256 * (9 * 3 * 4 + 9 * 4 * 12)
    note = "costs are those of the head x2, the first; MACs by head: x2 138,240, denoise30 55,296"
    assert note in card.notes
    assert not cost(Side(width=4)).notes
