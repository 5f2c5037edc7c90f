"""What one call of an ATen operator costs, from the shapes of its arguments.

Three tables: priced (multiply-accumulates by formula), elementwise (one per output element), free
(views, allocation, layout). An operator in none of them is unpriced.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload


@dataclass(frozen=True)
class Ops:
    """Operations by type, for one call on the inputs given.

    `adds` are additions outside multiply-accumulates (2 per adder tap); `elementwise` counts one
    per output element of activations, normalisation, pooling and data movement.
    """

    macs: int = 0
    adds: int = 0
    shifts: int = 0
    bit_ops: int = 0
    lookups: int = 0
    elementwise: int = 0

    def __add__(self, other: Ops) -> Ops:
        return Ops(
            self.macs + other.macs,
            self.adds + other.adds,
            self.shifts + other.shifts,
            self.bit_ops + other.bit_ops,
            self.lookups + other.lookups,
            self.elementwise + other.elementwise,
        )

    def __bool__(self) -> bool:
        return self != NONE


NONE = Ops()
Price = Callable[[tuple[Any, ...], Any], Ops]  # (arguments, output) -> operations


def _convolution(args: tuple[Any, ...], out: Any) -> Ops:
    """(x, weight, bias, stride, padding, dilation, transposed, ...): bias is not counted.

    weight (O, C / groups, *K), transposed (C, O / groups, *K): each output (transposed: input)
    element meets weight.numel() / weight.shape[0] taps.
    """
    x, weight, transposed = args[0], args[1], args[6]
    return Ops(macs=(x if transposed else out).numel() * math.prod(weight.shape[1:]))


def _matrix(first: int) -> Price:
    """Price a product whose left factor (..., M, K) is argument `first`."""

    def price(args: tuple[Any, ...], out: Any) -> Ops:
        return Ops(macs=out.numel() * args[first].shape[-1])

    return price


def _addbmm(args: tuple[Any, ...], out: Any) -> Ops:
    """(input, batch1 (B, N, M), batch2 (B, M, P)): the products are summed over B."""
    return Ops(macs=args[1].numel() * args[2].shape[-1])


def _dot(args: tuple[Any, ...], out: Any) -> Ops:
    return Ops(macs=args[0].numel())


def _attention(args: tuple[Any, ...], out: Any) -> Ops:
    """(query (..., L, E), key (..., S, E), value (..., S, V)): Q K^T and its product with V.

    Every score counts, masked or not: the kernels compute the full products.
    """
    query, key, value = args[:3]
    return Ops(macs=query.numel() // query.shape[-1] * key.shape[-2] * sum(
        t.shape[-1] for t in (query, value)
    ))  # fmt: skip


def _recurrent(args: tuple[Any, ...], out: Any) -> Ops:
    """(x (T, N, I), W_ih, W_hh, ...): both weights once per step and sample; gates elementwise."""
    x, w_ih, w_hh = args[:3]
    steps = x.shape[0] * x.shape[1]
    return Ops(macs=steps * (w_ih.numel() + w_hh.numel()), elementwise=steps * w_ih.shape[0])


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


PRICED: dict[str, Price] = {
    "convolution": _convolution,
    "_convolution": _convolution,
    "convolution_overrideable": _convolution,
    "mm": _matrix(0),
    "bmm": _matrix(0),
    "mv": _matrix(0),
    "addmm": _matrix(1),
    "_addmm_activation": _matrix(1),
    "baddbmm": _matrix(1),
    "addmv": _matrix(1),
    "_int_mm": _matrix(0),
    "addbmm": _addbmm,
    "dot": _dot,
    "vdot": _dot,
    "mkldnn_rnn_layer": _recurrent,
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_scaled_dot_product_flash_attention": _attention,
    "_scaled_dot_product_efficient_attention": _attention,
    "_scaled_dot_product_cudnn_attention": _attention,
    "_scaled_dot_product_fused_attention_overrideable": _attention,
}

# Beyond the operators that torch itself tags as pointwise.
ELEMENTWISE = _names(
    # normalisation
    "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training "
    "cudnn_batch_norm _batch_norm_no_update native_layer_norm native_group_norm _fused_rms_norm "
    "_softmax _log_softmax linalg_vector_norm norm _weight_norm_interface "
    # pooling and resizing
    "avg_pool2d avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d "
    "adaptive_max_pool3d max_pool2d_with_indices max_pool3d_with_indices max_unpool2d "
    "max_unpool3d fractional_max_pool2d upsample_nearest1d upsample_nearest2d upsample_nearest3d "
    "_upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d "
    "upsample_linear1d upsample_bilinear2d upsample_bicubic2d upsample_trilinear3d "
    "_upsample_bilinear2d_aa _upsample_bicubic2d_aa grid_sampler_2d grid_sampler_3d "
    # reductions
    "mean sum prod amax amin max min aminmax argmax argmin all any var std var_mean std_mean "
    "logsumexp cumsum cumprod median topk sort kthvalue "
    # activations that carry no pointwise tag
    "glu _prelu_kernel hardswish hardtanh log_sigmoid_forward rrelu_with_noise masked_fill "
    # data movement that writes other elements than it read
    "cat stack constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d "
    "replication_pad1d replication_pad2d replication_pad3d roll flip repeat index index_select "
    "gather scatter scatter_add index_put slice_scatter select_scatter embedding im2col col2im "
    "pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle tril triu one_hot "
    "repeat_interleave masked_select take"
)

FREE = _names(
    # allocation and constants
    "empty empty_like new_empty empty_strided zeros zeros_like new_zeros ones ones_like new_ones "
    "full full_like new_full arange linspace eye scalar_tensor rand randn rand_like randn_like "
    # layout, type and device; no arithmetic
    "clone copy _to_copy contiguous lift_fresh lift detach alias _unsafe_view unsafe_split "
    "unsafe_split_with_sizes unsafe_chunk _local_scalar_dense item is_same_size resize "
    "_reshape_alias set_ fill zero to_mkldnn "
    # what is drawn only in training
    "native_dropout bernoulli"
)


def _one_per_output(args: tuple[Any, ...], out: Any) -> Ops:
    first = out[0] if isinstance(out, tuple | list) and out else out
    return Ops(elementwise=first.numel() if isinstance(first, Tensor) else 0)


def _nothing(args: tuple[Any, ...], out: Any) -> Ops:
    return NONE


@functools.cache
def price_of(operator: OpOverload) -> Price | None:
    """Return the price of an operator, or None where nobody has set one."""
    if operator.namespace not in ("aten", "prims"):
        return None
    packet = operator.overloadpacket
    name = packet.__name__.removesuffix("_")  # relu_ costs what relu costs
    if name in PRICED:
        return PRICED[name]
    plain = getattr(torch.ops.aten, name, packet)
    spellings = (operator, *(getattr(plain, o) for o in plain.overloads()))
    if name in FREE or any(o.is_view for o in spellings):
        return _nothing
    if name in ELEMENTWISE or any(torch.Tag.pointwise in o.tags for o in spellings):
        return _one_per_output
    return None
