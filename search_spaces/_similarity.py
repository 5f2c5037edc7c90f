"""How alike a patch of the input and a filter are: kernels of the responses of two kinds of layer.

A layer answers patch x and filter f with x.f (a convolution) or with -||x - f||_1 (an adder). The
answers of the two have other signs, scales and distributions; a kernel brings both to one scale:

    laplace    exp(-||x - f||_1 / 2s^2) of an adder, exp(+-x.f / 2s^2) of a convolution
    gaussian   exp(-||x - f||_2^2 / 2s^2) of either
    cosine     x.f / (||x|| ||f||) of either
    linear     x.f of either
    none       the layer's own answer

"laplace" is our reading of arXiv:2009.13044. 2s^2 follows the data, because a sum over C k^2 taps
is in the hundreds: under a fixed s its exponential is 0 everywhere.

An adder's weight takes one gradient per backward pass, through its own answer (it is normalised
there). "laplace", "gaussian" and "none" respect that; under "cosine" and "linear" the match moves
what an adder is given, not its filters.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

Kernel = Literal["laplace", "gaussian", "cosine", "linear", "none"]
Sigma = Literal["channel", "layer", "fan_in"]

LEAST = 1e-12  # of a scale or a squared norm, for a patch of zeros


class Heard(NamedTuple):
    """What a layer was given, (N, C, H, W), what it answered, (N, O, H', W'), and how it works."""

    inputs: Tensor
    output: Tensor
    weight: Tensor  # (O, C, k, k)
    stride: int
    padding: int
    distance: bool  # whether the answer is minus an l1 distance

    def detached(self) -> Heard:
        """Return the same without a way back for gradients."""
        return self._replace(
            inputs=self.inputs.detach(), output=self.output.detach(), weight=self.weight.detach()
        )

    def products(self) -> Tensor:
        """Return x.f for every patch and filter; an adder's filters get no gradient."""
        if not self.distance:
            return self.output
        fixed = self.weight.detach()
        return functional.conv2d(self.inputs, fixed, None, self.stride, self.padding)

    def squared_norms(self) -> tuple[Tensor, Tensor]:
        """Return ||x||^2 (N, 1, H', W') and ||f||^2 (1, O, 1, 1), the latter as `products`."""
        ones = torch.ones_like(self.weight[:1])
        patches = functional.conv2d(self.inputs**2, ones, None, self.stride, self.padding)
        weight = self.weight.detach() if self.distance else self.weight
        return patches, weight.square().sum((1, 2, 3)).view(1, -1, 1, 1)

    def minus_squared_distance(self) -> Tensor:
        """Return -||x - f||_2^2 for every patch and filter.

        Through an adder its gradient takes the adder's own way: x - f is what that takes for the
        derivative of its answer by f, which is half the derivative of this.
        """
        patches, filters = self.squared_norms()
        value = 2 * self.products() - patches - filters
        if not self.distance:
            return value
        return value.detach() + 2 * (self.output - self.output.detach())


def similarity(heard: Heard, kernel: Kernel, sigma: Sigma = "channel", sign: int = 1) -> Tensor:
    """Return the kernel of every patch and filter, (N, O, H', W').

    `sigma` sets 2s^2 to the mean of what is exponentiated, over each channel or the layer (of the
    batch, constant for gradients), or to the C k^2 taps. `sign` is that of x.f in "laplace".
    """
    if kernel == "none":
        return heard.output
    if kernel == "linear":
        return heard.products()
    if kernel == "laplace":
        exponent = heard.output if heard.distance else sign * heard.output
        return (exponent / _scale(heard, exponent, sigma)).exp()
    if kernel == "cosine":
        patches, filters = heard.squared_norms()
        return heard.products() * (patches + LEAST).rsqrt() * (filters + LEAST).rsqrt()
    exponent = heard.minus_squared_distance()
    return (exponent / _scale(heard, exponent, sigma)).exp()


def _scale(heard: Heard, exponent: Tensor, sigma: Sigma) -> Tensor:
    """Return 2s^2, which broadcasts against (N, O, H', W')."""
    size = exponent.detach().abs()
    if sigma == "fan_in":
        return size.new_tensor(float(math.prod(heard.weight.shape[1:])))
    mean = size.mean((0, 2, 3), keepdim=True) if sigma == "channel" else size.mean()
    return mean.clamp_min(LEAST)
