"""Gated branches: what they compute, what they skip, what gradients reach, and every file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from gatednets import Bright, Coloured, images
from nasx.cost.onnxfile import write_onnx
from nasx.errors import NasxError
from nasx.networkfiles import exported
from search_spaces._layers.gated import gated, one_of
from test_modelfile import written


class Seen(nn.Module):
    """Doubles, and notes how many samples came."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.batches.append(len(x))
        return 2 * x


@pytest.mark.parametrize("gate", [[0.0, 0, 0], [1.0, 1, 1], [0.0, 0.5, 0], [0.0, 0.5, 2]])
def test_a_branch_runs_for_the_open_samples_alone_and_is_multiplied_by_its_gate(gate):
    x, base, branch, values = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4), Seen(), [*gate]
    gate = torch.tensor(gate)
    found = gated(x, gate, branch, base)
    torch.testing.assert_close(found, base + gate.reshape(-1, 1, 1, 1) * 2 * x)
    wanted = sum(value != 0 for value in values)
    assert branch.batches == [wanted] * (wanted > 0)


def test_none_is_open_for_all_and_looks_at_no_value():
    x = torch.empty(3, 2, device="meta")
    assert gated(x, None, Seen(), x).shape == (3, 2)
    assert one_of(torch.empty(2, 3, 4, 4, device="meta"), 1, [Seen(), Seen()], 3).is_meta


def test_gradients_reach_the_gate_of_a_closed_branch_and_the_weights_of_an_open_one():
    x, branch = torch.randn(3, 2), nn.Linear(2, 2)
    gate = torch.tensor([0.0, 1.0, 0.0], requires_grad=True)
    gated(x, gate, branch, x).sum().backward()
    torch.testing.assert_close(gate.grad, branch(x).sum(1).detach())
    dense, branch.weight.grad = branch.weight.grad.clone(), None
    gated(x, gate.detach(), branch, x).sum().backward()  # gates frozen: closed samples are skipped
    torch.testing.assert_close(branch.weight.grad, dense)


@pytest.mark.parametrize("n", [1, 4])
def test_each_sample_takes_the_one_branch_that_it_chose(n):
    x, ways = torch.randn(n, 3, 4, 4), [Seen(), nn.Conv2d(3, 3, 1), Seen()]
    chosen = torch.tensor([2, 1, 2, 2])[:n]
    gates = nn.functional.one_hot(chosen, 3) * torch.tensor([0.5, 2.0, 1.0, 1.0])[:n, None]
    found = one_of(x, gates, ways, 3)
    for i in range(n):
        way = ways[int(chosen[i])]
        torch.testing.assert_close(found[i], gates[i, chosen[i]] * way(x[i : i + 1])[0])
    assert ways[0].batches == []


@pytest.mark.parametrize("make", [Bright, Coloured])
def test_program_source_and_onnx_compute_it_at_any_batch_size_and_hold_the_branches(make, tmp_path):
    torch.manual_seed(3)
    network, x = make().eval(), images(12)
    with torch.inference_mode():
        wanted = network(x)
        assert len(network.paths(x).unique(dim=0)) > 2  # else nothing is shown
    source, model = written(network, tmp_path, x)
    assert " if " in source
    saved = io.BytesIO()
    torch.export.save(exported(network, x), saved)
    saved.seek(0)
    write_onnx(network, (3, 16, 16), tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    files: dict[str, Any] = {
        "source": model,
        "program": torch.export.load(saved).module(),
        "onnx": lambda x: torch.as_tensor(session.run(None, {"input": x.numpy()})[0]),
    }
    for name, file in files.items():
        with torch.inference_mode():
            alone = torch.cat([file(one) for one in x.split(1)])
            for found in (file(x), alone):
                torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5, msg=name)
    assert conditions(tmp_path / "model.onnx") == (2 if make is Bright else 3)


def conditions(path: Path) -> int:
    """How many If nodes an ONNX file has."""
    import onnx

    return sum(node.op_type == "If" for node in onnx.load(path).graph.node)


class Inside(nn.Module):
    """A gated branch within a gated branch."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.c = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = gated(x, (x.mean((1, 2, 3)) > -1).to(x.dtype), self.inner, x)
        return gated(x, (x.mean((1, 2, 3)) > 0).to(x.dtype), self.c, x)

    def inner(self, x: Tensor) -> Tensor:
        return gated(self.a(x), (x.mean((1, 2, 3)) > 1).to(x.dtype), self.b, x)


def test_branches_within_branches_keep_their_names_apart(tmp_path):
    torch.manual_seed(0)
    network, x = Inside().eval(), images(8)
    source, model = written(network, tmp_path, x)
    with torch.inference_mode():
        torch.testing.assert_close(model(x), network(x))
        for one in x.split(1):
            torch.testing.assert_close(model(one), network(one))
    methods = [line.split("(")[0] for line in source.splitlines() if "    def " in line]
    assert len(methods) == len(set(methods))


class Branching(nn.Module):
    """What must never be exported: a Python branch on a value."""

    def __init__(self) -> None:
        super().__init__()
        self.skip, self.run = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x) if x.mean() > 0 else self.skip(x)


def test_a_traced_branch_on_values_is_never_exported(tmp_path):
    with pytest.raises(NasxError, match="without branches on values"):
        exported(Branching().eval(), images(2))
    with pytest.raises(NasxError, match="cannot be written as ONNX"):
        write_onnx(Branching().eval(), (3, 16, 16), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
