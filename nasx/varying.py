"""Networks whose work depends on the input: how they say so.

    class Gated(nn.Module):
        def paths(self, inputs): ...    # (N, k) int64: which way each sample takes at k places
        def widest(self): ...           # a copy in which everything that may run does
        ways = (2, 7)                   # optional: how many ways each place has
        gate_names = ("p3", "p4")       # optional: what the places are called

nasx asks the network itself, not its layers, and knows no technique by name. Of two ways, 0 is
closed and 1 open. Samples of one path cost the same. `widest` must not look at values, so that
its cost can be told from shapes alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nasx.errors import NasxError

if TYPE_CHECKING:
    from torch import Tensor, nn


def varies(network: nn.Module) -> bool:
    """Return whether a network says that its work depends on the input."""
    return hasattr(network, "paths") and hasattr(network, "widest")


def widest_of(network: nn.Module) -> nn.Module:
    """Return the network at its most expensive; one whose work is always the same, itself."""
    if not varies(network):
        return network
    own: Any = network
    found: nn.Module = own.widest()
    return found


def paths_of(network: nn.Module, inputs: Tensor) -> Tensor:
    """Return `network.paths(inputs)` without gradients; anything but (N, k) int64 is refused."""
    import torch

    own: Any = network
    with torch.no_grad():
        found: object = own.paths(inputs)
    fault = misshapen(found, len(inputs))
    if fault or not isinstance(found, torch.Tensor):
        raise NasxError(f"{type(network).__name__}.{fault}")
    return found


def misshapen(found: object, count: int) -> str | None:
    """Return what is wrong with an answer of `paths` to `count` samples, or None."""
    import torch

    wanted = f"paths(inputs) must answer ({count}, k) int64 from 0 on"
    if not isinstance(found, torch.Tensor):
        return f"{wanted}, not a {type(found).__name__}"
    if found.ndim != 2 or len(found) != count or found.dtype != torch.int64:
        return f"{wanted}, not {tuple(found.shape)} {str(found.dtype).removeprefix('torch.')}"
    return f"{wanted}, and answers {int(found.min())}" if (found < 0).any() else None


def places(network: nn.Module, count: int) -> list[str]:
    """Return the names of a network's k places, where it names them; else their numbers."""
    named = tuple(getattr(network, "gate_names", ()))
    return [str(n) for n in named] if len(named) == count else [str(i) for i in range(count)]


def ways_of(network: nn.Module, seen: Tensor) -> list[int]:
    """Return how many ways each place has: as declared, else two or as many as `seen` (N, k)."""
    declared = tuple(getattr(network, "ways", ()))
    if len(declared) == seen.shape[1]:
        return [int(n) for n in declared]
    most = seen.amax(0).tolist() if len(seen) else [0] * seen.shape[1]
    return [max(2, int(n) + 1) for n in most]
