"""Call the compiled adder convolution (adder.cpp) on float32 tensors of the CPU."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from search_spaces._layers._native import library


class Job(ctypes.Structure):
    """What the kernels are told; the order is that of adder.cpp."""

    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in (
            "samples", "channels", "height", "width", "filters", "kernel", "stride", "padding",
            "out_height", "out_width", "x_last", "y_last", "of_filter", "of_channel", "of_row",
            "of_column", "threads",
        )
    )  # fmt: skip


def kernels(*tensors: Tensor) -> ctypes.CDLL | None:
    """Return the compiled kernels where they serve these tensors, else None."""
    if any(t.dtype != torch.float32 or t.device.type != "cpu" for t in tensors):
        return None
    return library("adder")


def channels_last(x: Tensor) -> bool:
    """Return whether x (N, C, H, W) lies in memory with its channels innermost."""
    return x.stride(1) == 1 and x.shape[1] > 1 and x.shape[2] * x.shape[3] > 1


def empty(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Return a tensor (N, C, H, W) of the type, place and memory format of another."""
    form = torch.channels_last if channels_last(like) else torch.contiguous_format
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=form)


def forward(
    made: ctypes.CDLL, x: Tensor, weight: Tensor, stride: int, padding: int, y: Tensor
) -> None:
    """Write -sum |x - w| into y, which is dense in the memory format of x."""
    x, x_last = _dense(x)
    job = _job(x, weight, stride, padding, y, x_last, channels_last(y))
    _demand_memory(made.adder_forward(ctypes.byref(job), *_addresses(x, weight, y)))


def grad_input(
    made: ctypes.CDLL, grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int
) -> Tensor:
    """Return sum clip(w - x, -1, 1) * grad, in the memory format of x."""
    x, x_last = _dense(x)
    grad, grad_last = _dense(grad)
    found = empty(tuple(x.shape), x)
    job = _job(x, weight, stride, padding, grad, x_last, grad_last)
    _demand_memory(made.adder_grad_input(ctypes.byref(job), *_addresses(grad, x, weight, found)))
    return found


def _dense(x: Tensor) -> tuple[Tensor, bool]:
    """Return x without gaps, and whether its channels are innermost."""
    last = channels_last(x)
    return x.contiguous(
        memory_format=torch.channels_last if last else torch.contiguous_format
    ), last


def _job(
    x: Tensor, weight: Tensor, stride: int, padding: int, y: Tensor, x_last: bool, y_last: bool
) -> Job:
    return Job(
        *x.shape, weight.shape[0], weight.shape[2], stride, padding, *y.shape[2:],
        x_last, y_last, *weight.stride(), torch.get_num_threads(),
    )  # fmt: skip


def _addresses(*tensors: Tensor) -> list[ctypes.c_void_p]:
    return [ctypes.c_void_p(t.data_ptr()) for t in tensors]


def _demand_memory(failed: int) -> None:
    if failed:
        raise MemoryError("there is no memory left for an adder convolution")
