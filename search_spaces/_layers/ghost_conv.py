"""Convolve, and put shifted copies of the maps beside them: the deployed ghost convolution.

    maps = conv(x)                       (N, C, H, W), stride 1, zeros around
    ghost(y, x) = map(y + dy, x + dx)    zeros from outside
    answer = [maps, ghosts]              (N, C + G, H, W), one tensor

Source: GhostSR (arXiv:2101.08525). Which ghost copies which map, and from where, is told by runs
of neighbouring ghosts: (first ghost, how many, first map, dy, dx), in the order of the ghosts.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasx.cost.ops import Ops
from nasx.errors import NasxError
from search_spaces._layers._native import isa, library, operator, unwatched
from search_spaces._layers._once import once
from search_spaces._layers.packed import channels_last

RUN = 5  # numbers that tell of a run
LARGEST = 15  # kernel that ghost.cpp takes
SIZES = ctypes.c_int64 * 9


def shifted(x: Tensor, dy: int, dx: int) -> Tensor:
    """Return maps (N, C, H, W) seen from (dy, dx): out(y, x) = in(y + dy, x + dx), zeros beyond."""
    height, width = x.shape[-2:]
    if abs(dy) >= height or abs(dx) >= width:
        return torch.zeros_like(x)
    return F.pad(x, (-dx, dx, -dy, dy)) if dy or dx else x


def ghost_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, runs: list[int]) -> Tensor:
    """Compute nasx::ghost_conv2d in plain torch, one run after the other."""
    # Bundles carry this text alone: no other name of this file may stand in it.
    maps = F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)
    height, width = maps.shape[-2:]
    parts = [maps]
    for i in range(0, len(runs), 5):
        _, many, first, dy, dx = runs[i : i + 5]
        part = maps[:, first : first + many]
        if abs(dy) >= height or abs(dx) >= width:
            parts.append(torch.zeros_like(part))
        else:
            parts.append(F.pad(part, (-dx, dx, -dy, dy)) if dy or dx else part)
    return torch.cat(parts, 1)


def _output(x: Tensor, weight: Tensor, runs: list[int]) -> Tensor:
    form = torch.channels_last if channels_last(x) else torch.contiguous_format
    shape = (x.shape[0], weight.shape[0] + sum(runs[1::RUN]), *x.shape[2:])
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=form)


def _kernel(x: Tensor, weight: Tensor, bias: Tensor | None, runs: list[int]) -> Tensor:
    plain = x.dtype != torch.float32 or x.device.type != "cpu" or not channels_last(x)
    kernels = None if plain or weight.shape[-1] > LARGEST or not x.numel() else _kernels()
    if kernels is None:
        return _output(x, weight, runs).copy_(ghost_conv2d(x, weight, bias, runs))
    job = _job(x.shape, weight.shape, tuple(runs), torch.get_num_threads())
    y = torch.empty_strided(job.output, job.strides)  # channels last; quicker so
    version = None if bias is None or bias.is_inference() else bias._version
    where = None if bias is None else bias.data_ptr()
    packed = once(
        weight, ("ghost", where, version), lambda: _packed(kernels, weight, bias, job.sizes)
    )
    if kernels.ghost_forward(job.sizes, x.data_ptr(), packed.data_ptr(), job.runs, y.data_ptr()):
        raise MemoryError(f"no memory for a ghost convolution of {list(x.shape)}")
    return y


class _Job(NamedTuple):
    """What the kernel is told beside memory: the same for every call on one shape."""

    sizes: ctypes.Array[ctypes.c_int64]
    runs: ctypes.Array[ctypes.c_int64]
    output: tuple[int, ...]
    strides: tuple[int, ...]


@functools.lru_cache(1024)
def _job(x: tuple[int, ...], weight: tuple[int, ...], runs: tuple[int, ...], threads: int) -> _Job:
    maps, ghosts = weight[0], sum(runs[1::RUN])
    sizes = SIZES(*x, maps, ghosts, weight[-1], len(runs) // RUN, threads)
    told = (ctypes.c_int64 * len(runs))(*runs)
    (n, _, high, wide), out = x, maps + ghosts
    strides = (high * wide * out, 1, wide * out, out)
    return _Job(sizes, told, (n, out, high, wide), strides)


@functools.cache
def _kernels() -> ctypes.CDLL | None:
    found = library("ghost")
    if found is not None:
        address = ctypes.c_void_p
        found.ghost_packed.restype = ctypes.c_int64
        found.ghost_pack.argtypes = [SIZES, address, address, address]
        found.ghost_forward.argtypes = [SIZES, address, address, address, address]
    return found


def _packed(kernels: ctypes.CDLL, weight: Tensor, bias: Tensor | None, sizes: Any) -> Tensor:
    """Return weight and bias as the kernel reads them (see ghost.cpp)."""
    last = weight.detach().permute(0, 2, 3, 1).contiguous()
    found = torch.empty(kernels.ghost_packed(sizes))
    start = None if bias is None else bias.detach().contiguous().data_ptr()
    kernels.ghost_pack(sizes, last.data_ptr(), start, found.data_ptr())
    return found


def _fake(x: Tensor, weight: Tensor, bias: Tensor | None, runs: list[int]) -> Tensor:
    return _output(x, weight, runs)


_operator = operator(
    "ghost_conv2d(Tensor x, Tensor weight, Tensor? bias, int[] runs) -> Tensor", _kernel, _fake
).default  # type: ignore[attr-defined] # without its overloads: quicker


class GhostConv2d(nn.Module):
    """A convolution and shifted copies of its maps, in one call: (N, C, H, W) float32.

    There is no gradient: such a layer is made from a trained one, and `moved` says which of its
    orientations training changed. NasxError where the convolution
    is not of stride 1 with zeros around, or where the runs do not fit it.
    """

    references: ClassVar[dict[str, Callable[..., Any]]] = {"nasx::ghost_conv2d": ghost_conv2d}

    def __init__(
        self,
        conv: nn.Conv2d,
        runs: Sequence[tuple[int, int, int, int, int]],
        moved: Sequence[bool] = (),
    ) -> None:
        super().__init__()
        side = conv.kernel_size[0]
        plain = (conv.stride, conv.dilation, conv.groups, conv.padding_mode)
        if plain != ((1, 1), (1, 1), 1, "zeros") or side % 2 == 0:
            raise NasxError(f"GhostConv2d: {conv} must have stride 1, no groups and an odd kernel")
        if conv.kernel_size != (side, side) or conv.padding != (side // 2, side // 2):
            raise NasxError(f"GhostConv2d: {conv} must be square and keep the size of its input")
        ghosts = 0
        for first, many, source, _, _ in runs:
            if first != ghosts or many < 1 or source < 0 or source + many > conv.out_channels:
                raise NasxError(
                    f"GhostConv2d: run {(first, many, source)} does not follow {ghosts} ghosts of "
                    f"{conv.out_channels} maps"
                )
            ghosts += many
        self.conv, self.ghosts, self.moved = conv, ghosts, tuple(moved)
        self.runs = [number for run in runs for number in run]

    @property
    def kernel(self) -> str:
        """Return what computes this layer here."""
        return "ghost (plain torch)" if _kernels() is None else f"ghost ({isa()})"

    def count_ops(self, x: Tensor, output: Tensor) -> Ops:
        """Count the convolution's taps; each ghost element is moved once."""
        maps = self.conv.out_channels
        share = output.numel() // output.shape[1]
        return Ops(
            macs=share * maps * self.conv.in_channels * self.conv.kernel_size[0] ** 2,
            elementwise=share * self.ghosts,
        )

    def extra_repr(self) -> str:
        """Return how many ghosts there are, in how many runs."""
        return f"ghosts={self.ghosts}, runs={len(self.runs) // RUN}"

    def forward(self, x: Tensor) -> Tensor:
        """Return maps and ghosts; a NasxError says what is wrong with an input."""
        conv = self.conv
        if x.ndim != 4 or x.shape[1] != conv.in_channels:
            raise NasxError(
                f"GhostConv2d takes (N, {conv.in_channels}, H, W), not {tuple(x.shape)}"
            )
        run = _kernel if unwatched(x) else _operator
        y: Tensor = run(x, conv.weight, conv.bias, self.runs)
        return y
