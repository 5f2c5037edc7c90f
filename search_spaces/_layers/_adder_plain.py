"""The adder convolution in plain torch: for double precision, and where no kernel can be made.

Neither direction holds more than one kernel tap at a time: no tensor of filters x taps x places.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK = 2**18  # elements that one step of the input gradient works on, so that caches hold them


def forward(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Return -sum |x - w|: x (N, C, H, W), weight (O, C, k, k) -> (N, O, H', W'), channels last."""
    samples, filters = x.shape[0], weight.shape[0]
    padded = F.pad(x, (padding,) * 4).permute(0, 2, 3, 1)  # channels last: a place is a row
    height, width = sides(x, weight, stride, padding)
    y = x.new_zeros(samples * height * width, filters)
    for a, b, rows, columns in taps(weight.shape[-1], stride, height, width):
        places = padded[:, rows, columns].reshape(-1, x.shape[1])
        y -= torch.cdist(places, weight[:, :, a, b], p=1.0)
    return y.view(samples, height, width, filters).permute(0, 3, 1, 2)


def grad_input(grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Return sum clip(w - x, -1, 1) * grad, of the shape of x."""
    return torch.cat(
        [
            _grad_input(g, part, weight, stride, padding)
            for g, part in zip(*(torch.split(t, _samples(x)) for t in (grad, x)), strict=True)
        ]
    )


def _samples(x: Tensor) -> int:
    return max(1, CHUNK // max(1, x[:1].numel()))


def _grad_input(grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    padded = F.pad(x, (padding,) * 4)
    found = torch.zeros_like(padded)
    height, width = grad.shape[2:]
    for a, b, rows, columns in taps(weight.shape[-1], stride, height, width):
        places = padded[:, :, rows, columns].contiguous()
        total, step = torch.zeros_like(places), torch.empty_like(places)
        for o, filter_tap in enumerate(weight[:, :, a, b, None, None]):
            torch.sub(filter_tap, places, out=step)
            total.addcmul_(step.clamp_(-1, 1), grad[:, o : o + 1])
        found[:, :, rows, columns] += total
    return found[:, :, padding : padding + x.shape[2], padding : padding + x.shape[3]]


def sides(x: Tensor, weight: Tensor, stride: int, padding: int) -> tuple[int, int]:
    """Return height and width of the output."""
    kernel = weight.shape[-1]
    height, width = ((n + 2 * padding - kernel) // stride + 1 for n in x.shape[2:])
    return height, width


def taps(
    kernel: int, stride: int, height: int, width: int
) -> Iterator[tuple[int, int, slice, slice]]:
    """Yield each tap of a kernel with the rows and columns of the padded input that it meets."""
    for a in range(kernel):
        for b in range(kernel):
            rows = slice(a, a + stride * (height - 1) + 1, stride)
            columns = slice(b, b + stride * (width - 1) + 1, stride)
            yield a, b, rows, columns
