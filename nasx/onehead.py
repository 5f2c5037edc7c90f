"""One head of a network of several, as a network of its own: what is exported and costed."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from nasx.errors import NasxError
from nasx.networkfiles import ONNX, PROGRAM, SOURCE, Part
from nasx.shape import Shape, TaskShape
from nasx.tasks.base import heads_of


def heads_to_export(network: nn.Module, shape: TaskShape, head: str | None) -> tuple[str, ...]:
    """Return the heads that files are written for: the task's, or the one asked for by name.

    Nothing where neither task nor network names any, or there is one and it is called without.
    NasxError for a head that the network does not have.
    """
    own = shape.outputs if isinstance(shape.outputs, tuple) else ()
    known = heads_of(network) or own
    if head is not None and head not in known:
        have = f"it has {', '.join(known)}" if known else "it has no heads by name"
        raise NasxError(
            f"the network was not trained for a head '{head}': {have}; name one of those"
        )
    if len(known) < 2:
        return ()
    return (head,) if head is not None else tuple(h for h in own or known)


def one_head(network: nn.Module, head: str, inputs: Tensor) -> nn.Module:
    """Return a copy of a network that is called without a head's name and answers for `head`.

    Layers that `head` does not use are left out, where what is left answers `inputs` (N, ...)
    number for number as before; tensors keep their names.
    """
    whole, lean = (_asked(copy.deepcopy(network), head) for _ in range(2))
    touched = _Touched()
    with torch.no_grad():
        with touched:
            wanted = tree_leaves(whole(inputs))
        _drop_idle(lean, {name for name, t in _tensors(whole) if id(t) in touched.found})
        try:
            found = tree_leaves(lean(inputs))
        except Exception:  # its forward looks at what it does not use
            return whole
    return lean if all(map(torch.equal, found, wanted)) else whole


def known_of(network: nn.Module, shape: Shape, part: Part) -> dict[str, Any]:
    """Return what a bundle says of one head: MACs and parameters, and the names of its files."""
    from nasx.cost.card import card_of

    cost = card_of(network, shape)
    files = [part.named(name) for name in (ONNX, PROGRAM, SOURCE)]
    return {"macs": cost.macs, "params": cost.params, "files": files}


def by_head(network: nn.Module, shape: Shape) -> str:
    """Say what each head of a network costs that names several; nothing of any other network."""
    from nasx.cost.card import card_of

    heads = heads_of(network)
    if len(heads) < 2:
        return ""
    cards = {head: card_of(_asked(copy.deepcopy(network), head), shape) for head in heads}
    counts = ", ".join(f"{head} {card.macs:,}" for head, card in cards.items())
    return f"costs are those of the head {heads[0]}, the first; MACs by head: {counts}"


class _Touched(TorchFunctionMode):
    """Notes every tensor that a function of torch is given."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[int] = set()

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        self.found |= {id(t) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        return func(*args, **(kwargs or {}))


def _asked(network: nn.Module, head: str) -> nn.Module:
    """Make a network answer for one head alone."""
    own = type(network)

    def forward(self: Any, inputs: Tensor) -> Any:
        return own.forward(self, inputs, head)

    network.__class__ = type(own.__name__, (own,), {"forward": forward})
    if heads_of(network):
        network.heads = (head,)  # type: ignore[assignment]
    return network


def _tensors(network: nn.Module) -> list[tuple[str, Tensor]]:
    """Return parameters and buffers by name, those under two names under each."""
    parameters = network.named_parameters(remove_duplicate=False)
    return [*parameters, *network.named_buffers(remove_duplicate=False)]


def _drop_idle(network: nn.Module, used: set[str]) -> None:
    """Take out the tensors of layers none of whose tensors is used, and unused ones of a list."""
    for prefix, module in network.named_modules(remove_duplicate=False):
        names = [*module._parameters, *module._buffers]
        idle = [n for n in names if (f"{prefix}.{n}" if prefix else n) not in used]
        if isinstance(module, nn.ParameterDict):
            for name in idle:
                del module[name]
        elif len(idle) == len(names):
            module._parameters.clear()
            module._buffers.clear()
