"""Memory of a network: the bytes of its weights as stored, and of its activations while it runs."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn


class Live:
    """Follows which activations are alive as a forward pass goes on, and what they take.

    An activation lives from the operator that writes it until Python lets go of it: what PyTorch
    does in inference. Views share their storage; weights, buffers and what a kernel allocates for
    itself (columns of im2col, reordered copies) are not counted.
    """

    def __init__(self) -> None:
        self.now = self.peak = 0
        self.known: dict[int, Any] = {}  # storages by address: weights, or weak references

    def leave_out(self, model: nn.Module, seen: Callable[[Tensor], Tensor] | None = None) -> None:
        """Count no view of a network's weights and buffers as an activation.

        `seen` turns each into the tensor that the forward meets, where that is another.
        """
        for module in model.modules():
            for tensor in (*module._parameters.values(), *module._buffers.values()):
                if tensor is not None:
                    storage = (seen(tensor) if seen else tensor).untyped_storage()
                    self.known[storage._cdata] = storage

    def write(self, tensor: Tensor) -> None:
        """Note a tensor that an operator returned."""
        storage = tensor.untyped_storage()
        address = storage._cdata
        if address in self.known:
            return
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)

        def gone(_: Any) -> None:
            if self.known.pop(address, None) is not None:
                self.now -= size

        self.known[address] = weakref.ref(storage, gone)

    def write_all(self, outputs: Any) -> None:
        """Note every tensor in an operator's answer or a network's inputs."""
        if isinstance(outputs, Tensor):
            self.write(outputs)
        elif isinstance(outputs, dict):
            self.write_all(list(outputs.values()))
        elif isinstance(outputs, tuple | list):
            for part in outputs:
                self.write_all(part)


def stored_bytes(model: nn.Module) -> int:
    """Return the bytes of all parameters as they are stored; a tied weight counts once.

    A module whose parameters are stored in fewer bits than their type has names them by
    `stored_bits() -> {"weight": 1}`; each parameter fills whole bytes. Running statistics fold
    into the layer before them, and do not count.
    """
    return sum((bits + 7) // 8 for bits in _bits(model))


def _bits(model: nn.Module) -> Iterable[int]:
    seen: set[int] = set()
    for module in model.modules():
        said = module.stored_bits() if hasattr(type(module), "stored_bits") else {}  # type: ignore[operator]
        for name, parameter in module._parameters.items():
            if parameter is None or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            yield parameter.numel() * int(said.get(name, 8 * parameter.element_size()))
