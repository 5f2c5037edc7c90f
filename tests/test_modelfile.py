"""The generated source computes what the network computes, whatever operators it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from nasx.errors import NasxError
from nasx.modelcard import standard_error
from nasx.modelfile import model_source, stored_tensors
from nasx.networkfiles import exported
from ownlayers import Distance


def written(network: nn.Module, folder: Path, example: Tensor, **more: Any) -> tuple[str, Any]:
    """The source of a network and an instance of its Model."""
    program = exported(network.eval(), example)
    source = model_source(program, "a test", **more)
    save_file(stored_tensors(program), folder / "weights.safetensors")
    names: dict[str, Any] = {"__file__": str(folder / "model.py"), "__name__": "model"}
    exec(compile(source, "model.py", "exec"), names)
    return source, names["Model"]().eval()


def held(network: nn.Module, folder: Path, example: Tensor, **more: Any) -> str:
    """Check the source against the network at three batch sizes; return it."""
    source, model = written(network, folder, example, **more)
    generator = torch.Generator().manual_seed(1)
    for n in (1, 2, 5):
        x = torch.randn((n, *example.shape[1:]), generator=generator)
        with torch.inference_mode():
            wanted, found = network(x.clone()), model(x.clone())
        for a, b in zip(tree_leaves(wanted), tree_leaves(found), strict=True):
            torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-6)
    return source


class Transformer(nn.Module):
    """Patches, attention, a gated GELU layer, tied weights, constants and a hidden buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 4, 4)
        self.norm = nn.LayerNorm(16)
        self.qkv = nn.Linear(16, 48)
        self.mlp = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Dropout(0.5), nn.Linear(32, 16))
        self.head = nn.Linear(16, 16)
        self.again = self.head
        self.register_buffer("place", torch.randn(16, 16), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[0]
        x = self.patch(x).flatten(2).transpose(1, 2) + self.place
        q, k, v = self.qkv(self.norm(x)).view(n, 16, 3, 2, 8).permute(2, 0, 3, 1, 4).unbind(0)
        bias = torch.arange(16, device=x.device)[None, :] * torch.tensor([[0.01]])
        y = F.softmax(q @ k.transpose(-1, -2) * 8**-0.5 + bias, dim=-1) @ v
        y = y + F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + y.transpose(1, 2).reshape(n, 16, 16)
        x = x + self.mlp(x)
        y = self.again(F.relu(self.head(x)))
        return y.mean(1)


class Odds(nn.Module):
    """In-place steps whose value is used again, padding, resizing, pooling, chunks, dicts."""

    def __init__(self) -> None:
        super().__init__()
        self.add_module("for", nn.Conv2d(3, 8, 3, padding="same"))
        self.add_module("0", nn.Conv2d(8, 8, 1))
        self.register_buffer("middle", torch.tensor(0.5))
        self.batch = nn.BatchNorm2d(8, track_running_stats=False)
        self.act = nn.ReLU6(inplace=True)

    middle: Tensor

    def forward(self, x: Tensor) -> dict[Any, Any]:
        y = getattr(self, "for")(x)
        z = F.silu(y, inplace=True)
        y.add_(1.0)  # z is the same memory
        y = self.act(self.batch(getattr(self, "0")(F.hardswish(z))))
        y = F.interpolate(F.pad(y, (1, 1, 0, 2), value=float("-inf")), scale_factor=2)
        y = F.max_pool2d(y, 3, stride=2, padding=1).clamp(-1, 1) * self.middle
        a, b = y.chunk(2, dim=1)
        rolled = torch.roll(torch.where(a > b, a, b), (1, -1), (2, 3))
        pooled = [F.adaptive_avg_pool2d(v, 2) for v in (a, rolled)]
        return {"maps": pooled, 7: (x.amax((2, 3)) - 1.0, rolled.abs().sum((1, 2)).sqrt())}


class Branches(nn.Module):
    """A branch that depends on the input, both sides kept by torch.cond."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 4), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        gate = x.sum() > 0
        y: Tensor = torch.cond(gate, lambda z: self.a(z) * 2, lambda z: F.relu(self.b(z)), (x,))
        return y + 1


def test_transformer(tmp_path: Path) -> None:
    source = held(Transformer(), tmp_path, torch.randn(2, 3, 16, 16))
    assert "dropout" not in source
    assert "self.again_weight = self.head_weight" in source
    assert "F.layer_norm(" in source
    params = sum(p.numel() for p in Transformer().parameters())
    _, model = written(Transformer(), tmp_path, torch.randn(2, 3, 16, 16))
    assert sum(p.numel() for p in model.parameters()) == params


def test_odd_operators_and_structured_outputs(tmp_path: Path) -> None:
    network = Odds()
    source = held(network, tmp_path, torch.randn(2, 3, 8, 8))
    assert "F.silu(y, inplace=True)" in source
    assert 'float("-inf")' in source
    _, model = written(network, tmp_path, torch.randn(2, 3, 8, 8))
    x = torch.randn(1, 3, 8, 8)
    with torch.inference_mode():
        assert model(x).keys() == {"maps", 7}
        assert isinstance(model(x)["maps"], list)
        assert isinstance(model(x)[7], tuple)


def test_branches_on_the_input(tmp_path: Path) -> None:
    source, model = written(Branches().eval(), tmp_path, torch.randn(2, 6))
    network = Branches().eval()
    network.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    for sign in (1.0, -1.0):
        x = sign * torch.rand(3, 6)
        torch.testing.assert_close(model(x), network(x))
    assert "if" in source


def test_an_own_operator_brings_its_reference(tmp_path: Path) -> None:
    network = nn.Sequential(Distance(6, 5), nn.ReLU())
    references = {**Distance.references, "owntest::unused": 1 / 2}
    source = held(network, tmp_path, torch.randn(2, 6), references=references)
    assert source.count("def distance(x, w, power=1.0):") == 1
    assert "    # One axis more than either has" in source  # comments come along
    assert "    apart = (x[:, None] - w).abs()" in source  # annotations do not
    assert "import math\n" in source
    with pytest.raises(NasxError, match="calls the operator owntest::distance"):
        written(network, tmp_path, torch.randn(2, 6))


def test_a_branch_on_values_is_refused_in_one_line() -> None:
    class Branchy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(NasxError, match=r"Branchy: torch\.export cannot follow") as caught:
        exported(Branchy(), torch.randn(2, 3))
    assert "\n" not in str(caught.value)


def test_words_of_a_title_stay_words(tmp_path: Path) -> None:
    program = exported(nn.Linear(2, 2), torch.randn(2, 2))
    source = model_source(program, 'x"""\nimport os\\')
    assert source.startswith("\"\"\"x''' import os/\n")
    compile(source, "model.py", "exec")


def test_the_standard_error_is_binomial() -> None:
    assert standard_error(50.0, 100) == 5.0
    assert standard_error(100.0, 7) == 0.0
