"""Transformers as files: parity at several batch sizes, smaller graphs, counts of any kernel."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nasx.cost.ops import count
from nasx.networkfiles import write_networks
from nasx.parity import READERS
from nasx.shape import TaskShape
from search_spaces.vision_transformer import VisionTransformer

SIDE = 20
SHAPE = TaskShape("classify", (3, SIDE, SIDE), 5)
SMALL: dict[str, object] = {"dim": [32] * 4, "depth": [2, 1, 1, 1], "stem": "patch"}
FLAT: dict[str, object] = {
    **SMALL, "layout": "flat", "depth": [4] * 4, "position": "learned", "pool": "cls"
}  # fmt: skip
NETWORKS: dict[str, dict[str, object]] = {
    "two tokens in front, kept tokens, pruned heads": {
        **FLAT, "distill": "hard", "tokens_kept": [0.7, 0.5, 1.0], "heads_kept": 0.5,
        "mlp_kept": 0.5,
    },
    "padded and shifted windows, then a reduced grid": {
        **SMALL, "attention": ["window", "reduced", "global", "global"], "merge": "concat",
        "position": "relative", "ffn": "conv",
    },
    "words within patches": {**FLAT, "inner": 8, "depth": [1] * 4},
    "narrow transformers first, induced points, low bits": {
        **SMALL, "layout": "flat", "stem": "t2t", "attention": ["induced"] * 4, "bits": 4,
        "depth": [1] * 4,
    },
}  # fmt: skip


def candidate(fields: dict[str, object]) -> VisionTransformer:
    return VisionTransformer.from_json(fields)


def deployed(fields: dict[str, object]) -> torch.nn.Module:
    torch.manual_seed(0)
    one = candidate(fields)
    return one.decide(one.build(SHAPE)).eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_file_computes_what_the_network_does(name: str, tmp_path: Path) -> None:
    model = deployed(NETWORKS[name])
    x = torch.randn(7, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = model(x)
    write_networks(model, name, tmp_path, x)
    for file, read in READERS.items():
        network = read(tmp_path / file)
        for size in (1, 2, 7):
            (found,) = network(x[:size])
            assert (found - wanted[:size]).abs().max() < 1e-4 * wanted.abs().max(), (file, size)
    if "pruned" in name:  # nothing of what was dropped is in the graph
        graph = onnx.load(tmp_path / "model.onnx").graph
        held = sum(torch.tensor(t.dims).prod().item() for t in graph.initializer)
        parameters = sum(p.numel() for p in model.parameters())
        assert held < 1.02 * parameters + 64
        whole = {**NETWORKS[name], "heads_kept": 1.0, "mlp_kept": 1.0}
        assert parameters < 0.7 * sum(p.numel() for p in deployed(whole).parameters())


@pytest.mark.parametrize("name", ["two tokens in front, kept tokens, pruned heads", "flat"])
def test_attention_counts_alike_whatever_computes_it(name: str) -> None:
    """Fused or written out; and torch's counter, which counts two for one, says the same."""
    model = deployed(NETWORKS.get(name, FLAT))
    x = torch.zeros(1, 3, SIDE, SIDE)
    fused = count(model, x)
    with sdpa_kernel(SDPBackend.MATH):
        plain = count(model, x)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(x)
    assert fused.macs == plain.macs
    assert counter.get_total_flops() == 2 * fused.macs
    if name == "flat":
        cells, dim = (SIDE // 4) ** 2, 32
        tokens = cells + 1
        block = tokens * (4 * dim**2 + 2 * 2 * dim**2) + 2 * tokens**2 * dim
        assert fused.macs == cells * 48 * dim + 4 * block + dim * 5


def test_what_compression_saves_is_in_the_graph() -> None:
    """Heads, units and tokens take MACs with them; bits do not, only bytes."""
    from nasx.cost.card import card_of

    whole = card_of(deployed(FLAT), SHAPE.input)
    fewer = [{"heads_kept": 0.5}, {"mlp_kept": 0.5}, {"tokens_kept": [0.5] * 3}]
    for change in fewer:
        less = card_of(deployed({**FLAT, **change}), SHAPE.input)
        assert less.macs < 0.85 * whole.macs
    low = card_of(deployed({**FLAT, "bits": 4}), SHAPE.input)
    assert low.macs == whole.macs
    assert low.bytes < 0.4 * whole.bytes


@pytest.mark.parametrize("side", [15, 13])
def test_a_padded_image_is_the_image_with_zeros_beside_it(side: int) -> None:
    padded = torch.zeros(2, 3, 16, 16)
    x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(2))
    padded[:, :, :side, :side] = x
    answers = []
    for given in (x, padded):
        torch.manual_seed(0)
        shape = TaskShape("classify", tuple(given.shape[1:]), 5)
        with torch.no_grad():
            answers.append(candidate(FLAT).build(shape).eval()(given))
    torch.testing.assert_close(*answers)
