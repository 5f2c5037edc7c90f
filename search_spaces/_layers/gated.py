"""Branches that run only for the samples whose gate is open.

    y = gated(x, gate, self.inception, self.skip(x))      # skip(x) + gate * inception(x)
    y = one_of(x, gates, self.branches, channels)         # gate * branch(x), of the branch chosen

Eager execution takes the samples of a batch apart: a branch sees those alone that need it, and
none runs where none does. While torch.export follows the network a branch stands in torch.cond,
"does any sample need it", with the gate of each sample multiplied inside, so that the files made
of the program are right for every batch size, and skip as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

Branch = Callable[[Tensor], Tensor]


def gated(x: Tensor, gate: Tensor | None, branch: Branch, base: Tensor) -> Tensor:
    """Return `base` + `gate` * `branch(x)`, running the branch only where the gate is not 0.

    `x` (N, ...), `gate` (N,) of x's type, `base` shaped as the branch's answer. None stands for a
    gate that is always open: no value is looked at, so that shapes alone can be followed. Where
    gradients flow into the gate every sample runs the branch, for what a closed gate kept away is
    the gate's gradient. A branch with batch statistics sees only the samples that run it.
    """
    if gate is None:
        return base + branch(x)
    if torch.compiler.is_exporting():
        found: Tensor = torch.cond(
            gate.ne(0).any(),
            lambda base, x, gate: base + _beside(gate, base) * branch(x),
            lambda base, x, gate: base.clone(),  # torch.cond may not answer what it was given
            (base, x, gate),
        )
        return found
    if torch.is_grad_enabled() and gate.requires_grad:
        return base + _beside(gate, base) * branch(x)
    needed = gate.nonzero()[:, 0]
    if not len(needed):
        return base
    if len(needed) == len(gate):
        return base + _beside(gate, base) * branch(x)
    answer = branch(x.index_select(0, needed))
    return base.index_add(0, needed, _beside(gate.index_select(0, needed), answer) * answer)


def one_of(x: Tensor, gates: Tensor | int, branches: Iterable[Branch], channels: int) -> Tensor:
    """Return, for each sample, its gate times the answer of the one branch that it chose.

    `x` (N, C, H, W), `gates` (N, k) with one value other than 0 in each row, or the number of the
    branch that all take, without a look at values. Branches keep height and width and answer
    `channels` channels. Gradients flow into gates as in `gated`.
    """
    ways = list(branches)
    if isinstance(gates, int):
        return ways[gates](x)
    answer = x.new_zeros(x.shape[0], channels, *x.shape[2:])
    for i, branch in enumerate(ways):
        answer = gated(x, gates[:, i], branch, answer)
    return answer


def _beside(gate: Tensor, like: Tensor) -> Tensor:
    return gate.reshape(-1, *[1] * (like.ndim - 1))
