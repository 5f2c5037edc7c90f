"""What the deployed convolutions of few bits have in common: a weight that is stored packed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nasx.errors import NasxError
from search_spaces._layers.packing import demand_width, pack, unpack


class PackedConv2d(nn.Module):
    """A convolution whose weight is a buffer `packed` of codes, (O, k, k, C) (see `packing`).

    `scale` (O,), where there is one, multiplies the filters. There is no bias and no gradient:
    such a layer is made from a trained one.
    """

    references: ClassVar[dict[str, Callable[..., Any]]] = {}
    packed: Tensor
    scale: nn.Parameter | None

    def __init__(
        self, codes: Tensor, bits: int, stride: int, padding: int, scale: Tensor | None
    ) -> None:
        super().__init__()
        demand_width(bits, "weights")
        if codes.ndim != 4 or codes.shape[2] != codes.shape[3] or 0 in codes.shape:
            raise NasxError(
                f"{type(self).__name__}: weights of shape {tuple(codes.shape)}, wanted (filters, "
                "channels, k, k)"
            )
        if stride < 1 or padding < 0:
            raise NasxError(
                f"{type(self).__name__}: stride = {stride} must be >= 1, padding = {padding} >= 0"
            )
        self.out_channels, self.in_channels, self.kernel_size = codes.shape[:3]
        self.bits, self.stride, self.padding = bits, stride, padding
        self.register_buffer("packed", pack(codes.detach().permute(0, 2, 3, 1), bits))
        if scale is None:
            self.scale = None
            return
        if scale.numel() != self.out_channels:
            raise NasxError(
                f"{type(self).__name__}: {scale.numel()} scales for {self.out_channels} filters"
            )
        factors = scale.detach().reshape(-1).to(torch.float32).clone()
        self.scale = nn.Parameter(factors, requires_grad=False)

    @property
    def shape(self) -> list[int]:
        """Return the shape of the weight, (O, C, k, k)."""
        return [self.out_channels, self.in_channels, self.kernel_size, self.kernel_size]

    @property
    def taps(self) -> int:
        """Return the weights that one output element meets."""
        return self.in_channels * self.kernel_size**2

    def weight_codes(self) -> Tensor:
        """Return the codes of the weight, (O, C, k, k) uint8."""
        out, inner, high, wide = self.shape
        flat = unpack(self.packed, self.bits, out * self.taps)
        return flat.reshape(out, high, wide, inner).permute(0, 3, 1, 2)

    def packed_counts(self) -> dict[str, int]:
        """Return how many weights a buffer holds, for the cost card."""
        return {"packed": self.out_channels * self.taps}

    def demand(self, x: Tensor) -> None:
        """Refuse an input that is not (N, C, H, W) in float32, or smaller than the window."""
        name = type(self).__name__
        if x.dtype != torch.float32:
            raise NasxError(f"{name} takes float32, not {str(x.dtype).removeprefix('torch.')}")
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise NasxError(
                f"{name}: an input of shape {tuple(x.shape)}, wanted (N, {self.in_channels}, H, W)"
            )
        if min(x.shape[2:]) + 2 * self.padding < self.kernel_size:
            raise NasxError(
                f"{name}: an input of {x.shape[2]} x {x.shape[3]} is smaller than its window of "
                f"{self.kernel_size} x {self.kernel_size} (padding {self.padding})"
            )

    def extra_repr(self) -> str:
        """Return what the layer is, for printing."""
        text = (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, bits={self.bits}"
        )
        return text + (f", padding={self.padding}" if self.padding else "")


def output_of(x: Tensor, shape: list[int], stride: int, padding: int) -> Tensor:
    """Return an empty output of a convolution, in the memory format of its input."""
    high = (x.shape[2] + 2 * padding - shape[2]) // stride + 1
    wide = (x.shape[3] + 2 * padding - shape[3]) // stride + 1
    memory = torch.channels_last if channels_last(x) else torch.contiguous_format
    sizes = (x.shape[0], shape[0], high, wide)
    return torch.empty(sizes, dtype=x.dtype, device=x.device, memory_format=memory)


def channels_last(x: Tensor) -> bool:
    """Return whether the channels of an input lie side by side (and only so)."""
    return not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


def mean_bits(model: nn.Module) -> dict[str, float]:
    """Return the bits of a stored weight of a network on average: all, and the low-bit layers'."""
    few = [m for m in model.modules() if isinstance(m, PackedConv2d)]
    weights = sum(m.out_channels * m.taps for m in few)
    bits = sum(m.out_channels * m.taps * m.bits for m in few)
    floats = sum(p.numel() for p in model.parameters())
    found = {"mean_bits": (bits + 32 * floats) / (weights + floats)}
    return found | ({"low_bit_mean": bits / weights} if weights else {})
