"""Slimmed networks as files: parity in all of them, and nothing that was pruned in any."""

from pathlib import Path

import onnx
import pytest
import torch
from onnx import numpy_helper
from safetensors.torch import load_file
from torch import nn

from nasx.cost.card import card_of
from nasx.errors import NasxError
from nasx.networkfiles import write_networks
from nasx.parity import READERS
from nasx.weights import fill, pack, unpack
from search_spaces._coupling import coupled
from search_spaces._surgery import slim
from test_surgery import NETWORKS, drawn, inputs, made

FILES = [("micro", "scatter"), ("padded", "group")]
CASES = [*FILES, ("bare", "scatter"), ("bottleneck", "inner")]


@pytest.mark.parametrize(("name", "mode"), FILES)
def test_every_file_computes_what_the_network_does(name, mode, tmp_path: Path):
    model = made(name)
    kept = drawn(coupled(model, mode), 4)
    small = slim(model, kept, mode)
    x = inputs(4)
    constants = write_networks(small, "slimmed", tmp_path, x)
    with torch.no_grad():
        wanted = small(x)
    for file, read in READERS.items():
        network = read(tmp_path / file)
        for batch in (x, x[:1]):
            (found,) = network(batch)
            assert (found - wanted[: len(batch)]).abs().max() < 1e-5 * wanted.abs().max(), file
    stored = load_file(tmp_path / "weights.safetensors")
    assert {k: v.shape for k, v in stored.items() if k not in constants} == {
        k: v.shape for k, v in small.state_dict().items()
    }
    assert all(stored[k].dtype == torch.int64 for k in constants)

    graph = onnx.load(tmp_path / "model.onnx").graph
    weights = {t.name: tuple(t.dims) for t in graph.initializer}
    shapes = sorted(weights[n.input[1]] for n in graph.node if n.op_type == "Conv")
    convolutions = [m for m in small.modules() if isinstance(m, nn.Conv2d)]
    assert shapes == sorted(tuple(m.weight.shape) for m in convolutions)
    floats = [t for t in graph.initializer if numpy_helper.to_array(t).dtype.kind == "f"]
    # BatchNorm folds into convolutions; sizes and constants of operators are a handful of scalars.
    running = sum(2 * m.num_features for m in small.modules() if isinstance(m, nn.BatchNorm2d))
    most = sum(p.numel() for p in small.parameters()) + running + 8
    assert sum(numpy_helper.to_array(t).size for t in floats) <= most
    assert not {n.op_type for n in graph.node} & {"ScatterND", "ScatterElements", "Transpose"}


def test_the_count_needs_no_forward_pass_for_slimmed_networks():
    from nasx.cost.ops import _walked
    from nasx.cost.quick import quick_count
    from nasx.cost.untouched import untouched

    for name, mode in CASES:
        model = made(name)
        small = slim(model, drawn(coupled(model, mode), 5), mode)
        x = inputs(2)
        found = quick_count(small, (x,))
        with untouched(small):
            assert found == _walked(small, (x,), traffic=False, bounded=False)
        assert found is not None
        assert card_of(small, (3, 16, 16)).unpriced == card_of(model, (3, 16, 16)).unpriced


def test_weights_of_another_network_are_refused_in_a_sentence(tmp_path: Path):
    model = made("bare")
    kept = drawn(coupled(model, "scatter"), 6)
    path = tmp_path / "dense.safetensors"
    path.write_bytes(pack(model.state_dict()))
    for other in (slim(model, kept, "scatter"), NETWORKS["padded"]()):
        tensors, _ = unpack(path)
        with pytest.raises(NasxError) as caught:
            fill(other, tensors, str(path))
        assert f"{path} does not fit the network: " in str(caught.value)
        assert len(str(caught.value)) < 600
        assert "\n" not in str(caught.value)
