"""Small layers on operators of their own, for tests of export, counting and timing."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasx.cost.ops import Ops
from nasx.operators import Reference

OPERATORS = torch.library.Library("owntest", "FRAGMENT")


def _operator(schema: str, kernel: Reference, fake: Reference) -> None:
    name = OPERATORS.define(schema)
    OPERATORS.impl(name, kernel, "CompositeExplicitAutograd")
    torch.library.register_fake(f"owntest::{name}", fake, lib=OPERATORS)


def distance(x: Tensor, w: Tensor, power: float = 1.0) -> Tensor:
    """Answer minus the distance of every row to every weight, scaled by a constant."""
    # One axis more than either has, in plain torch; the constant is 1.
    one = math.exp(0.0)
    apart: Tensor = (x[:, None] - w).abs()
    return -one * (apart**power).sum(2)


def _distance_kernel(x: Tensor, w: Tensor, power: float = 1.0) -> Tensor:
    return -torch.cdist(x, w, p=1) if power == 1.0 else -(x[:, None] - w).abs().pow(power).sum(2)


_operator(
    "distance(Tensor x, Tensor w, float power=1.0) -> Tensor",
    _distance_kernel,
    lambda x, w, power=1.0: x.new_empty(x.shape[0], w.shape[0]),
)


class Distance(nn.Module):
    """(N, features) to (N, rows): minus the l1 distance to each row."""

    references: ClassVar[dict[str, Reference]] = {"owntest::distance": distance}
    kernel = "distance (cdist)"

    def __init__(self, features: int, rows: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(rows, features))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.ops.owntest.distance(x, self.weight)
        return y

    def count_ops(self, x: Tensor, y: Tensor) -> Ops:
        return Ops(adds=2 * y.numel() * x.shape[1])


def signed_conv2d(x: Tensor, packed: Tensor, filters: int, stride: int = 1) -> Tensor:
    """Convolve the signs of x, 3 x 3 and padded, with weights of one bit, eight to a byte."""
    shifts = torch.arange(8, dtype=torch.uint8, device=packed.device)
    bits = (packed[:, None] >> shifts) & 1
    count = filters * x.shape[1] * 9
    signs = bits.reshape(-1)[:count].reshape(filters, x.shape[1], 3, 3).to(x.dtype) * 2 - 1
    return F.conv2d(torch.where(x >= 0, 1.0, -1.0), signs, stride=stride, padding=1)


def _signed_kernel(x: Tensor, packed: Tensor, filters: int, stride: int = 1) -> Tensor:
    """Do the same by other means: a table of all bytes, and columns."""
    table = torch.tensor(
        [[1.0 if byte >> i & 1 else -1.0 for i in range(8)] for byte in range(256)]
    )
    rows = 9 * x.shape[1]
    w = table[packed.long()].reshape(-1)[: filters * rows].reshape(filters, rows)
    signs = (x >= 0).to(x.dtype) * 2 - 1
    y = w @ F.unfold(signs, 3, padding=1, stride=stride)
    side = (x.shape[2] - 1) // stride + 1
    return y.reshape(len(x), filters, side, -1)


_operator(
    "signed_conv2d(Tensor x, Tensor packed, int filters, int stride=1) -> Tensor",
    _signed_kernel,
    lambda x, packed, filters, stride=1: x.new_empty(
        x.shape[0], filters, (x.shape[2] - 1) // stride + 1, (x.shape[3] - 1) // stride + 1
    ),
)


class SignedConv2d(nn.Module):
    """A convolution of signs by signs, weights packed eight to a byte."""

    references: ClassVar[dict[str, Reference]] = {"owntest::signed_conv2d": signed_conv2d}

    def __init__(self, channels: int, filters: int, stride: int = 1) -> None:
        super().__init__()
        self.filters, self.stride = filters, stride
        size = (filters * channels * 9 + 7) // 8
        self.register_buffer("packed", torch.randint(0, 256, (size,), dtype=torch.uint8))

    packed: Tensor

    @property
    def kernel(self) -> str:
        return "signed (table)"

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.ops.owntest.signed_conv2d(x, self.packed, self.filters, self.stride)
        return y

    def decides(self, x: Tensor) -> Tensor:
        return torch.where(x >= 0, 1, -1)

    def count_ops(self, x: Tensor, y: Tensor) -> Ops:
        return Ops(bit_ops=y.numel() * x.shape[1] * 9)


class Rounded(nn.Module):
    """Round to `levels` steps between 0 and 1."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, x: Tensor) -> Tensor:
        return torch.round(x.clamp(0, 1) * self.levels) / self.levels

    def decides(self, x: Tensor) -> Tensor:
        return torch.round(x.clamp(0, 1) * self.levels)


def two_of_ours(classes: int = 10) -> nn.Sequential:
    """Two layers of ours between ordinary ones, for (N, 1, 8, 8)."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        SignedConv2d(6, 5, stride=2),
        nn.BatchNorm2d(5),
        nn.ReLU(inplace=True),
        nn.Dropout(0.1),
        nn.Flatten(),
        Distance(80, 12),
        nn.BatchNorm1d(12),
        nn.Linear(12, classes),
    ).eval()
