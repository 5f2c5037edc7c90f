"""What one call of an ATen operator costs, from the shapes of its arguments.

Three tables: priced (multiply-accumulates by formula), elementwise (one per output element), free
(views, allocation, constants). An operator in none of them is unpriced.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._ops import OpOverload


class Ops(NamedTuple):
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

    def __add__(self, other: Ops) -> Ops:  # type: ignore[override]  # sums, joins no tuples
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
Price = Callable[[tuple[Any, ...], int], Ops]  # (arguments, elements written) -> operations


def _convolution(args: tuple[Any, ...], out: int) -> Ops:
    """(x, weight, bias, stride, padding, dilation, transposed, ...): bias is not counted.

    weight (O, C / groups, *K), transposed (C, O / groups, *K): each output (transposed: input)
    element meets weight.numel() / weight.shape[0] taps.
    """
    x, weight, transposed = args[0], args[1], args[6]
    return Ops(macs=(x.numel() if transposed else out) * math.prod(weight.shape[1:]))


def _conv_tbc(args: tuple[Any, ...], out: int) -> Ops:
    """(x (T, B, C), weight (K, C, O), ...)."""
    return Ops(macs=out * math.prod(args[1].shape[:2]))


def _matrix(first: int) -> Price:
    """Price a product whose left factor (..., M, K) is argument `first`."""

    def price(args: tuple[Any, ...], out: int) -> Ops:
        return Ops(macs=out * args[first].shape[-1])

    return price


def _addbmm(args: tuple[Any, ...], out: int) -> Ops:
    """(input, batch1 (B, N, M), batch2 (B, M, P)): the products are summed over B."""
    return Ops(macs=args[1].numel() * args[2].shape[-1])


def _dot(args: tuple[Any, ...], out: int) -> Ops:
    return Ops(macs=args[0].numel())


def _trilinear(args: tuple[Any, ...], out: int) -> Ops:
    """Three factors, each widened by its list of dimensions: one MAC per product that is summed."""
    shapes = []
    for factor, widened in zip(args[:3], args[3:6], strict=True):
        shape = list(factor.shape)
        for dim in widened:
            shape.insert(dim, 1)
        shapes.append(shape)
    return Ops(macs=math.prod(max(sizes) for sizes in zip(*shapes, strict=True)))


def _attention(args: tuple[Any, ...], out: int) -> Ops:
    """(query (..., L, E), key (..., S, E), value (..., S, V)): Q K^T and its product with V.

    Every score counts, masked or not: the kernels compute the full products.
    """
    query, key, value = args[:3]
    return Ops(macs=math.prod(query.shape[:-1]) * key.shape[-2] * sum(
        t.shape[-1] for t in (query, value)
    ))  # fmt: skip


def _recurrent(args: tuple[Any, ...], out: int) -> Ops:
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
    "_scaled_mm": _matrix(0),
    "_weight_int8pack_mm": _matrix(0),
    "_weight_int4pack_mm": _matrix(0),
    "_weight_int4pack_mm_for_cpu": _matrix(0),
    "affine_grid_generator": _matrix(0),
    "conv_tbc": _conv_tbc,
    "addbmm": _addbmm,
    "dot": _dot,
    "vdot": _dot,
    "_trilinear": _trilinear,
    "mkldnn_rnn_layer": _recurrent,
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_scaled_dot_product_flash_attention": _attention,
    "_scaled_dot_product_efficient_attention": _attention,
    "_scaled_dot_product_cudnn_attention": _attention,
    "_scaled_dot_product_fused_attention_overrideable": _attention,
}

# Elementwise operators that may write far more than they read (beside those that broadcast).
GROWING = _names(
    "repeat constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d "
    "replication_pad2d replication_pad3d index index_select gather embedding im2col one_hot "
    "max_unpool2d max_unpool3d repeat_interleave upsample_nearest1d upsample_nearest2d "
    "upsample_nearest3d _upsample_nearest_exact1d _upsample_nearest_exact2d "
    "_upsample_nearest_exact3d upsample_linear1d upsample_bilinear2d upsample_bicubic2d "
    "upsample_trilinear3d _upsample_bilinear2d_aa _upsample_bicubic2d_aa grid_sampler_2d "
    "grid_sampler_3d"
)

# Beyond the operators that torch itself tags as pointwise.
ELEMENTWISE = GROWING | _names(
    # normalisation
    "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training "
    "cudnn_batch_norm _batch_norm_no_update native_layer_norm native_group_norm _fused_rms_norm "
    "_softmax _log_softmax _safe_softmax linalg_vector_norm norm "
    "_masked_softmax _weight_norm_interface renorm "
    # pooling
    "avg_pool2d avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d "
    "adaptive_max_pool3d max_pool2d_with_indices max_pool3d_with_indices fractional_max_pool2d "
    "_embedding_bag _embedding_bag_forward_only embedding_renorm "
    # reductions
    "mean sum prod amax amin max min aminmax argmax argmin all any var std var_mean std_mean "
    "logsumexp cumsum cumprod median topk sort kthvalue nansum logcumsumexp cummax cummin "
    "nanmedian trace count_nonzero "
    # activations that carry no pointwise tag
    "glu _prelu_kernel hardswish hardtanh log_sigmoid_forward rrelu_with_noise masked_fill "
    # rounding to a grid
    "quantize_per_tensor quantize_per_channel dequantize fake_quantize_per_tensor_affine_cachemask "
    "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams "
    "fake_quantize_per_channel_affine_cachemask _fake_quantize_learnable_per_tensor_affine "
    "_fake_quantize_learnable_per_channel_affine "
    # data movement
    "cat stack roll flip scatter scatter_add scatter_reduce index_put index_add index_copy "
    "slice_scatter select_scatter col2im pixel_shuffle pixel_unshuffle channel_shuffle "
    "native_channel_shuffle tril triu masked_select take clone copy _to_copy contiguous "
    "unfold_copy nonzero rot90 index_fill diag_embed linalg_cross _pack_padded_sequence"
)

FREE = _names(
    # allocation and constants
    "empty empty_like new_empty empty_strided new_empty_strided zeros zeros_like new_zeros ones "
    "ones_like new_ones full full_like new_full arange linspace eye scalar_tensor rand randn "
    "rand_like randn_like tril_indices triu_indices "
    # layout and device; no arithmetic
    "lift_fresh lift detach alias _unsafe_view unsafe_split unsafe_split_with_sizes unsafe_chunk "
    "_local_scalar_dense item is_same_size resize _reshape_alias set_ fill zero to_mkldnn "
    "_fused_sdp_choice _assert_tensor_metadata _assert_async sym_size sym_numel "
    # random numbers
    "native_dropout bernoulli normal uniform exponential random multinomial poisson"
)


def elements(out: Any) -> int:
    """Return the elements of an operator's (first) output."""
    first = out[0] if isinstance(out, tuple | list) and out else out
    return first.numel() if isinstance(first, Tensor) else 0


def _one_per_output(args: tuple[Any, ...], out: int) -> Ops:
    return Ops(elementwise=out)


def _nothing(args: tuple[Any, ...], out: int) -> Ops:
    return NONE


@functools.cache
def price_of(operator: OpOverload) -> Price | None:
    """Return the price of an operator, or None where nobody has set one."""
    if operator.namespace == "prim":  # asks a tensor for its device or layout
        return _nothing
    if operator.namespace not in ("aten", "prims"):
        return None
    name = plain_name(operator)
    if name in PRICED:
        return PRICED[name]
    if name in ELEMENTWISE:
        return _one_per_output
    plain = getattr(torch.ops.aten, name, operator.overloadpacket)
    spellings = (operator, *(getattr(plain, o) for o in plain.overloads()))
    if name in FREE or any(o.is_view for o in spellings):
        return _nothing
    if any(torch.Tag.pointwise in o.tags for o in spellings):
        return _one_per_output
    return None


def plain_name(operator: OpOverload) -> str:
    """Return an operator's name without overload; in place or not: relu_ costs what relu costs."""
    return str(operator.overloadpacket.__name__).removesuffix("_")
