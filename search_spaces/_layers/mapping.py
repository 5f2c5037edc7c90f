"""Learning with noisy supervision: binary weights from whole filters (arXiv:2010.04871).

A mapping f looks at a whole filter, where sign() looks at one weight alone: Q = sign(f(W)). The
signs of a trained network are noisy labels of the signs that would be best, and an unbiased loss
(Natarajan et al., NIPS 2013, lemma 1) holds f near them. Once trained, f is dropped.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


class FilterMapping(nn.Module):
    """Map the filters of one layer: (O, C, k, k) to the same, W + g(W).

    A filter is a sample of g, its input channels are channels. g has `depth` convolutions k x k,
    C to times x C to C channels, with BatchNorm and ReLU between. Its last one starts at zero, so
    attaching a mapping changes nothing. `labels` are the noisy labels, +-1.

    BatchNorm takes its statistics from the filters at hand, in training and afterwards: with
    running ones, other signs would be deployed than were trained.
    """

    labels: Tensor
    seen: Tensor

    def __init__(self, filters: int, channels: int, kernel: int, *, depth: int, times: int) -> None:
        super().__init__()
        wide = [channels, *[channels * times] * (depth - 1), channels]
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, kernel, padding=kernel // 2, bias=False) for a, b in pairwise(wide)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(b, track_running_stats=False) for b in wide[1:-1])
        nn.init.zeros_(self.convs[-1].weight)  # type: ignore[arg-type]
        self.register_buffer("labels", torch.ones(filters, channels, kernel, kernel))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))  # since the last refresh

    def forward(self, weight: Tensor) -> Tensor:
        """Return the values whose signs are the layer's weights."""
        # In one memory format, whatever the network's: sums in another order could turn a sign.
        x = weight.contiguous()
        for conv, norm in zip(self.convs, [*self.norms, None], strict=True):
            x = functional.conv2d(x, conv.weight.contiguous(), padding=conv.padding)  # type: ignore
            if norm is not None:
                x = functional.relu(norm(x))
        return weight + x


def unbiased_loss(output: Tensor, labels: Tensor, rho_plus: float, rho_minus: float) -> Tensor:
    """Return the loss of each output under noisy labels +-1, whose mean over the noise is clean.

        ((1 - rho_other) (q - y)^2 - rho_own (q + y)^2) / (1 - rho_plus - rho_minus)

    `rho_plus` is the probability that a true +1 is labelled -1, `rho_minus` that a true -1 is
    labelled +1; `own` is of the label's sign. May be negative. ValueError where the two add up
    to 1 or more: such labels say nothing.
    """
    if min(rho_plus, rho_minus) < 0 or rho_plus + rho_minus >= 1:
        raise ValueError(f"rho = {rho_plus}, {rho_minus}: both >= 0, together below 1")
    plus = (labels > 0).to(output.dtype)
    own = rho_plus * plus + rho_minus * (1 - plus)
    other = rho_minus * plus + rho_plus * (1 - plus)
    agree, differ = (output - labels) ** 2, (output + labels) ** 2
    return ((1 - other) * agree - own * differ) / (1 - rho_plus - rho_minus)


def symmetric_loss(output: Tensor, labels: Tensor, rho: float) -> Tensor:
    """Return `unbiased_loss` at rho_plus = rho_minus = rho < .5, in closed form.

    It is the square distance to the label stretched by 1 / (1 - 2 rho), up to a constant.
    """
    if not 0 <= rho < 0.5:
        raise ValueError(f"rho = {rho}: at least 0 and below .5")
    stretch = 1 / (1 - 2 * rho)
    return (output - stretch * labels) ** 2 + 1 - stretch**2
