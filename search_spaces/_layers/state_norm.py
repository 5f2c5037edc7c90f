"""State batch normalisation: soft outputs train, hard outputs set the statistics (2009.08695, 3.3).

While weights are soft, the deployed network's outputs have other means and variances than those in
training. Each kind is normalised by its own; scale and shift are shared.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search_spaces._layers.quantised import QuantisedConv2d


class StateNorm2d(nn.BatchNorm2d):
    """Normalise soft outputs by their batch, and average the statistics of the hard ones.

    (N, C, H, W) -> (N, C, H, W). `source` is the convolution before it, `between` what stands
    between the two (a pooling).
    """

    def __init__(self, norm: nn.BatchNorm2d, source: QuantisedConv2d, between: list[nn.Module]):
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.load_state_dict(norm.state_dict())
        # In a tuple, so that they do not become children of this layer too.
        self._path = (source, *between)
        source.watched = True

    def forward(self, input: Tensor) -> Tensor:
        """Normalise by the batch in training, by the hard outputs' running statistics in eval."""
        if not self.training:
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0,
                self.eps,
            )  # fmt: skip
        self._observe()
        return F.batch_norm(input, None, None, self.weight, self.bias, True, 0.0, self.eps)

    @torch.no_grad()
    def _observe(self) -> None:
        source, *between = self._path
        assert isinstance(source, QuantisedConv2d)
        hard = source.hard_output
        if hard is None:  # the convolution did not run in training mode
            return
        for layer in between:
            hard = layer(hard)
        source.hard_output = None
        F.batch_norm(
            hard, self.running_mean, self.running_var, training=True, momentum=self.momentum or 0.0
        )


class FixedNorm2d(nn.Module):
    """A normalisation whose statistics stay what training left: nothing recalibrates them."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        assert norm.running_mean is not None
        assert norm.running_var is not None
        self.eps = norm.eps
        self.weight = nn.Parameter(norm.weight.detach().clone())
        self.bias = nn.Parameter(norm.bias.detach().clone())
        self.mean: Tensor
        self.variance: Tensor
        self.register_buffer("mean", norm.running_mean.clone())
        self.register_buffer("variance", norm.running_var.clone())

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C, H, W) shifted and scaled per channel."""
        return F.batch_norm(
            x, self.mean, self.variance, self.weight, self.bias, False, 0.0, self.eps
        )


def followed(model: nn.Module) -> list[tuple[nn.Module, str, QuantisedConv2d, list[nn.Module]]]:
    """Return where the normalisation after each quantised convolution stands.

    (its parent, its name there, the convolution, what stands between): the next BatchNorm2d among
    the convolution's siblings in the order of registration, pooling in between allowed.
    """
    found = []
    for parent in model.modules():
        conv: QuantisedConv2d | None = None
        between: list[nn.Module] = []
        for name, child in parent.named_children():
            if isinstance(child, QuantisedConv2d):
                conv, between = child, []
            elif conv is not None and isinstance(child, nn.BatchNorm2d):
                found.append((parent, name, conv, between))
                conv = None
            elif conv is not None and isinstance(child, nn.MaxPool2d):
                between.append(child)
            else:
                conv = None
    return found


def watch(model: nn.Module) -> None:
    """Give every quantised convolution of a network the state normalisation, in place."""
    for parent, name, conv, between in followed(model):
        norm = parent.get_submodule(name)
        assert isinstance(norm, nn.BatchNorm2d)
        parent.set_submodule(name, StateNorm2d(norm, conv, between))


def fix(model: nn.Module) -> None:
    """Fix the statistics of every normalisation after a quantised convolution, in place."""
    for parent, name, _, _ in followed(model):
        norm = parent.get_submodule(name)
        assert isinstance(norm, nn.BatchNorm2d)
        parent.set_submodule(name, FixedNorm2d(norm))
