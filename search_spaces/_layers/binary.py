"""Binary convolution in training: weights and inputs by their sign, gradients straight through.

    conv = BinaryConv2d(16, 32, 3, act="approx_sign")
    conv(x)         # conv(sign(x), sign(weight)), floats that hold whole numbers
    conv.signs()    # what is deployed, +-1

sign(0) = +1. Zero padding adds zero: a tap that lies outside the image is left out, as a kernel
on packed bits leaves it out. Every product is +-1, so the sums are exact in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from search_spaces._layers.mapping import FilterMapping
from search_spaces._layers.signs import approximated, clipped, sign, whole
from search_spaces._layers.xnor import XnorConv2d

ACTS = ("clip", "approx_sign")
WEIGHTS = ("sign", "scaled", "dorefa")


class BinaryConv2d(nn.Module):
    """Square convolution of signs: (N, c_in, H, W) to (N, c_out, ceil(H / stride), ...).

    `act` is the gradient of the input's sign. `weights` "sign" has clipped gradients and no scale;
    "scaled" multiplies each filter by its mean |w| (arXiv:1603.05279, section 3.1); "dorefa" all
    filters by the layer's mean |w|, the gradient going straight through (arXiv:1606.06160,
    section 2.3). A `mapping` (see `_layers.mapping`) gives the values whose signs are taken.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int,
        stride: int = 1,
        *,
        act: str = "clip",
        weights: str = "sign",
    ) -> None:
        super().__init__()
        if act not in ACTS or weights not in WEIGHTS:
            raise ValueError(
                f"act = {act!r}, weights = {weights!r}: use one of {ACTS} and one of {WEIGHTS}"
            )
        self.stride, self.padding, self.act, self.weights = stride, kernel // 2, act, weights
        # Latents are told apart by their signs alone; they start well inside the clip.
        self.weight = nn.Parameter(0.1 * torch.randn(c_out, c_in, kernel, kernel))
        self.mapping: FilterMapping | None = None
        self.mapped: Tensor | None = None  # the mapping's output while a step holds it

    def extra_repr(self) -> str:
        """Return the sizes for print(model)."""
        c_out, c_in, kernel, _ = self.weight.shape
        return f"{c_in}, {c_out}, kernel={kernel}, stride={self.stride}, {self.act}, {self.weights}"

    def attach(self, mapping: FilterMapping) -> None:
        """Take the weights from `mapping` from now on; its labels are the signs of now."""
        mapping.labels.copy_(sign(self.weight.detach()))
        self.mapping = mapping

    def latent(self) -> Tensor:
        """Return the real values whose signs are the weights, (c_out, c_in, k, k)."""
        if self.mapped is not None:
            return self.mapped
        return self.weight if self.mapping is None else self.mapping(self.weight)

    def scale(self) -> Tensor | None:
        """Return what the filters are multiplied by, (c_out,), or None."""
        if self.weights == "sign":
            return None
        if self.weights == "scaled":
            return self.weight.abs().mean((1, 2, 3))
        return self.weight.detach().abs().mean().expand(len(self.weight))

    def signs(self) -> Tensor:
        """Return the weights that the convolution runs with, +-1, (c_out, c_in, k, k)."""
        if self.weights != "dorefa":
            return clipped(self.latent())
        # The scale multiplies the gradient later on; what goes straight through is without it.
        mean = self.weight.detach().abs().mean().clamp_min(torch.finfo(self.weight.dtype).tiny)
        return whole(self.latent() / mean)

    @torch.no_grad()
    def deployed(self) -> XnorConv2d:
        """Return the layer on packed bits that computes the same, to the last bit."""
        return XnorConv2d.from_signs(self.signs(), self.stride, self.padding, self.scale())

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution; whole numbers where no scale is asked for."""
        signs = clipped(x) if self.act == "clip" else approximated(x)
        y = functional.conv2d(signs, self.signs(), None, self.stride, self.padding)
        scale = self.scale()
        return y if scale is None else y * scale[:, None, None]
