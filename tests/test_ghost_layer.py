"""Ghost layers: shifts by closed form, their gradient, recovery of a known shift, the kernel."""

import copy
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nasx.cost.onnxfile import write_onnx
from nasx.cost.ops import count
from nasx.errors import NasxError
from nasx.referencesource import reference_source
from search_spaces._layers._native import unwatched
from search_spaces._layers.ghost_conv import GhostConv2d, ghost_conv2d, shifted
from search_spaces._layers.shift import Ghosts, deploy, intrinsic, offsets, set_noise


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def looked(x: Tensor, dy: int, dx: int) -> Tensor:
    """The shift as a one-hot depthwise kernel, which is how it is published."""
    far = max(abs(dy), abs(dx), 1)
    kernel = torch.zeros(x.shape[1], 1, 2 * far + 1, 2 * far + 1)
    kernel[:, 0, far + dy, far + dx] = 1
    return F.conv2d(x, kernel, padding=far, groups=x.shape[1])


@pytest.mark.parametrize("move", offsets(2))
def test_a_shift_is_a_one_hot_kernel_with_zeros_beyond_the_border(move: tuple[int, int]) -> None:
    for height, width in ((5, 7), (2, 3), (1, 1)):
        x = drawn(2, 3, height, width)
        assert torch.equal(shifted(x, *move), looked(x, *move))


def test_shares_round_up_as_published() -> None:
    assert [intrinsic(256, r) for r in (0.75, 0.5, 0.375, 0.25)] == [192, 128, 96, 64]
    assert intrinsic(5, 0.5) == 3
    with pytest.raises(NasxError, match="no ghost"):
        Ghosts(4, 4, 3, ratio=1.0)


@pytest.mark.parametrize("each", ["layer", "channel"])
@pytest.mark.parametrize("ratio", [0.75, 0.5, 0.25])
def test_the_gradient_is_that_of_the_sum_over_all_shifts(each: Any, ratio: float) -> None:
    layer, x = Ghosts(3, 8, 3, ratio=ratio, each=each, reach=2), drawn(2, 3, 6, 5)
    assert layer.logits is not None
    set_noise(layer, 0.0, None, frozen=False)
    up = drawn(2, 8, 6, 5, seed=1)
    (layer.train()(x) * up).sum().backward()
    maps = layer.conv(x).detach()
    wanted = torch.zeros_like(layer.logits)
    for g in range(layer.ghosts):
        source = maps[:, g % maps.shape[1]].unsqueeze(1)
        row = [(looked(source, *m)[:, 0] * up[:, maps.shape[1] + g]).sum() for m in offsets(2)]
        wanted[g if each == "channel" else g // maps.shape[1]] += torch.stack(row)
    torch.testing.assert_close(layer.logits.grad, wanted, rtol=1e-4, atol=1e-4)
    # What the convolution gets is the gradient of the deployed layer.
    twin = copy.deepcopy(layer)
    twin.zero_grad()
    plain = ghost_conv2d(x, twin.conv.weight, twin.conv.bias, [n for r in twin.runs() for n in r])
    (plain * up).sum().backward()
    torch.testing.assert_close(layer.conv.weight.grad, twin.conv.weight.grad)


def recovered(rank: Any) -> int:
    """How many of 27 logit vectors, three for each shift by one pixel, find it on a photograph."""
    from skimage import data

    photo = torch.tensor(data.camera()[::2, ::2] / 255.0).float()[None, None]
    torch.manual_seed(0)
    layer = Ghosts(1, 54, 1, ratio=0.5, each="channel", rank=rank, bias=False)
    nn.init.ones_(layer.conv.weight)
    assert layer.logits is not None
    targets = [i % 9 for i in range(27)]
    optimizer = torch.optim.Adam([layer.logits], 0.05)
    generator = torch.Generator().manual_seed(0)
    set_noise(layer, 1.0, generator, frozen=False)
    for _ in range(300):
        y, x = torch.randint(0, 200, (2,), generator=generator).tolist()
        image = photo[..., y : y + 48, x : x + 48]
        wanted = torch.cat([shifted(image, *offsets(1)[k]) for k in targets], 1)
        loss = F.l1_loss(layer(image)[:, 27:], wanted) * 27  # each by itself
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return sum(a == b for a, b in zip(layer.chosen(), targets, strict=True))


def test_known_shifts_are_recovered_by_signed_logits_and_not_by_their_magnitude() -> None:
    assert recovered("signed") == 27
    assert 12 <= recovered("abs") <= 24  # the official ranking: a most unwelcome shift may win


def test_frozen_and_idle_logits_take_no_gradient_and_noise_changes_the_choice() -> None:
    layer, x = Ghosts(2, 32, 3, ratio=0.5, each="channel"), drawn(1, 2, 6, 6)
    assert layer.logits is not None
    generator = torch.Generator().manual_seed(0)
    set_noise(layer, 1.0, generator, frozen=False)
    assert not torch.equal(layer(x), layer(x))
    set_noise(layer, 0.0, None, frozen=True)
    layer(x).sum().backward()
    assert layer.logits.grad is None
    assert torch.equal(layer(x), layer.eval()(x))
    assert not any(layer.moved())
    with torch.no_grad():
        layer.logits[3, (layer.chosen()[3] + 1) % 9] = 9.0
    assert sum(layer.moved()) == 1


@pytest.mark.parametrize("mode", ["learned", "fixed", "random", "copy", "depthwise"])
@pytest.mark.parametrize("each", ["layer", "channel"])
def test_the_deployed_layer_answers_as_the_trained_one(mode: Any, each: Any) -> None:
    for ratio, reach in ((0.75, 1), (0.5, 2), (0.25, 2)):
        model = nn.Sequential(Ghosts(3, 12, 3, ratio=ratio, mode=mode, each=each, reach=reach))
        x, wanted = drawn(2, 3, 9, 7), model.eval()(drawn(2, 3, 9, 7))
        deployed = deploy(copy.deepcopy(model))
        with torch.no_grad():
            for form in (torch.contiguous_format, torch.channels_last):
                torch.testing.assert_close(deployed(x.to(memory_format=form)), wanted)
        if mode in ("copy", "fixed"):
            assert len({run[3:] for run in model[0].runs()}) <= (1 if mode == "copy" else 3)  # type: ignore[operator,union-attr]


def _runs(maps: int, ghosts: int, moves: list[tuple[int, int]]) -> Any:
    found, first = [], 0
    while first < ghosts:
        source = first % maps
        many = min(ghosts - first, maps - source, 1 + first % 3)
        found.append((first, many, source, *moves[first % len(moves)]))
        first += many
    return found


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 3), st.integers(1, 40), st.integers(1, 14), st.integers(1, 60),
    st.integers(1, 70), st.integers(1, 50), st.sampled_from([1, 3, 5]), st.booleans(),
    st.lists(st.sampled_from(offsets(2)), min_size=1, max_size=4), st.sampled_from([1, 2]),
)  # fmt: skip
def test_the_kernel_agrees_with_plain_torch(
    n: int, c: int, h: int, w: int, maps: int, ghosts: int, kernel: int, bias: bool,
    moves: list[tuple[int, int]], threads: int,
) -> None:  # fmt: skip
    conv = nn.Conv2d(c, maps, kernel, padding=kernel // 2, bias=bias)
    layer = GhostConv2d(conv, _runs(maps, ghosts, moves))
    x = drawn(n, c, h, w).to(memory_format=torch.channels_last)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.no_grad():
            found = layer(x)
            wanted = ghost_conv2d(x, conv.weight, conv.bias, layer.runs)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert found.shape == wanted.shape == (n, maps + ghosts, h, w)


def test_the_kernel_follows_a_weight_that_changes_and_writes_the_same_on_two_threads() -> None:
    layer = GhostConv2d(nn.Conv2d(8, 32, 3, padding=1), [(0, 32, 0, 1, -1)])
    x = drawn(1, 8, 30, 40).to(memory_format=torch.channels_last)
    with torch.no_grad():
        first = layer(x)
        layer.conv.weight.mul_(2)
        torch.testing.assert_close(
            layer(x) - layer.conv.bias[0], ghost_conv2d(
                x, layer.conv.weight, layer.conv.bias, layer.runs
            ) - layer.conv.bias[0], rtol=1e-4, atol=1e-4,
        )  # fmt: skip
        assert not torch.equal(first, layer(x))
        before = torch.get_num_threads()
        found = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(layer(x))
        torch.set_num_threads(before)
    assert torch.equal(*found)


def test_layers_that_cannot_be_are_refused() -> None:
    for conv in (nn.Conv2d(2, 4, 3, 2, 1), nn.Conv2d(2, 4, 3), nn.Conv2d(2, 4, 2)):
        with pytest.raises(NasxError):
            GhostConv2d(conv, [(0, 4, 0, 0, 0)])
    same = nn.Conv2d(2, 4, 3, padding=1)
    for run in ((1, 2, 0, 0, 0), (0, 5, 0, 0, 0), (0, 2, 3, 0, 0)):
        with pytest.raises(NasxError, match="does not follow"):
            GhostConv2d(same, [run])
    with pytest.raises(NasxError, match=r"takes \(N, 2, H, W\)"):
        GhostConv2d(same, [(0, 4, 0, 0, 1)])(drawn(1, 3, 4, 4))


def test_a_shift_costs_movement_and_no_multiplication() -> None:
    x = torch.zeros(1, 16, 12, 10)
    dense = count(nn.Conv2d(16, 32, 3, padding=1), x)
    ghost = count(Ghosts(16, 32, 3, ratio=0.5).deployed(), x)
    wide = count(Ghosts(16, 32, 3, ratio=0.5, mode="depthwise").deployed(), x)
    assert ghost.macs * 2 == dense.macs
    assert ghost.elementwise == 16 * 120
    assert wide.macs - ghost.macs == 9 * 16 * 120


@pytest.mark.parametrize("each", ["layer", "channel"])
def test_an_exported_layer_answers_alike_in_onnxruntime(each: Any, tmp_path: Any) -> None:
    layer = Ghosts(3, 16, 3, ratio=0.375, each=each, reach=2).deployed().eval()
    path = tmp_path / "net.onnx"
    write_onnx(layer, (3, 9, 8), path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    x = drawn(3, 3, 9, 8)
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(found, layer(x).numpy(), rtol=1e-4, atol=1e-5)


def test_a_call_that_something_watches_goes_through_the_dispatcher() -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Seen(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):  # type: ignore[no-untyped-def]
            names.append(func.name())
            return func(*args, **(kwargs or {}))

    names: list[str] = []
    layer = GhostConv2d(nn.Conv2d(4, 8, 3, padding=1), [(0, 8, 0, 1, -1)])
    x = drawn(2, 4, 6, 5).to(memory_format=torch.channels_last)
    with torch.no_grad():
        assert unwatched(x)
        alone = layer(x)
        with Seen():
            assert torch.equal(layer(x), alone)
        assert "nasx::ghost_conv2d" in names
        exported = torch.export.export(layer, (x,), strict=False)
        assert "nasx.ghost_conv2d" in str(exported.graph)
        assert torch.equal(exported.module()(x), alone)
        mapped = torch.func.vmap(layer)(x.unsqueeze(0))
        torch.testing.assert_close(mapped[0], alone)
    assert not unwatched(x)  # a gradient may be asked for
    with torch.inference_mode():
        assert torch.equal(layer(x), alone)


def test_the_reference_stands_alone_as_bundles_need_it_and_shifts_alike() -> None:
    (name, reference), *others = GhostConv2d.references.items()
    assert not others
    # Whatever else its file has, a bundle does not.
    scope: dict[str, Any] = {"torch": torch, "F": F, "Tensor": Tensor, "__name__": "alone"}
    exec(reference_source(name, reference), scope)
    conv, x = nn.Conv2d(2, 6, 3, padding=1), drawn(1, 2, 5, 4)
    runs = [0, 3, 1, 2, -1, 3, 1, 0, 0, 0, 4, 2, 4, -5, 0]
    with torch.no_grad():
        found = scope[reference.__name__](x, conv.weight, conv.bias, runs)
        maps = conv(x)
    moved = [(maps[:, 1:4], 2, -1), (maps[:, :1], 0, 0), (maps[:, 4:], -5, 0)]
    torch.testing.assert_close(found, torch.cat([maps, *(shifted(*m) for m in moved)], 1))
