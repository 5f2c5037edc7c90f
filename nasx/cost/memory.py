"""Memory of a network: the bytes of its weights as stored, and of its activations while it runs."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nasx.shape import Shape

FEW = 20_480  # elements of one input up to which PyTorch convolves through columns
VECTOR = 16  # channels that oneDNN keeps together


class _Sized(weakref.ref[Any]):
    """A weak reference that remembers what it refers to when that has gone."""

    __slots__ = ("key", "size")
    key: int
    size: int


class Live:
    """Follows which activations are alive as a forward pass goes on, and what they take.

    An activation lives from the operator that writes it until Python lets go of it: what PyTorch
    does in inference. Views share their storage; weights and buffers are not counted.
    """

    def __init__(self) -> None:
        self.now = self.peak = 0
        self.known: dict[int, Any] = {}  # by address or id: weights, or weak references
        self._owned: set[int] = set()
        self._dropped = self._let_go  # one bound method for all references

    def leave_out(self, model: nn.Module, seen: Callable[[Tensor], Tensor] | None = None) -> None:
        """Count no view of a network's weights and buffers as an activation.

        `seen` turns each into the tensor that the forward meets, where that is another.
        """
        for module in model.modules():
            for tensor in (*module._parameters.values(), *module._buffers.values()):
                if tensor is not None:
                    storage = (seen(tensor) if seen else tensor).untyped_storage()
                    self.known[storage._cdata] = storage
                    self._owned.add(storage._cdata)

    def owns(self, tensor: Tensor) -> bool:
        """Return whether a tensor is a view of the network's own weights or buffers."""
        return tensor.layout is torch.strided and tensor.untyped_storage()._cdata in self._owned

    def write(self, tensor: Tensor) -> None:
        """Note a tensor that an operator returned."""
        if tensor.layout is not torch.strided:
            return  # sparse tensors have no storage of their own
        storage = tensor.untyped_storage()
        if storage._cdata not in self.known:
            self._hold(storage, storage._cdata, storage.nbytes())

    def write_new(self, tensor: Tensor) -> None:
        """Note a tensor that shares its storage with none before it; its views must keep it."""
        self._hold(tensor, id(tensor), tensor.numel() * tensor.dtype.itemsize)

    def _hold(self, owner: Any, key: int, size: int) -> None:
        reference = _Sized(owner, self._dropped)
        reference.key, reference.size = key, size
        self.known[key] = reference
        self.now += size
        if self.now > self.peak:
            self.peak = self.now

    def _let_go(self, reference: _Sized) -> None:
        if self.known.pop(reference.key, None) is not None:
            self.now -= reference.size

    def convolve(self, x: Shape, weight: Shape, out: Shape, setting: Convolving) -> None:
        """Note what a convolution holds before it hands over its output (not yet written)."""
        self.peak = max(self.peak, self.now + convolving(x, weight, out, setting))

    def write_all(self, outputs: Any) -> None:
        """Note every tensor in an operator's answer or a network's inputs."""
        if isinstance(outputs, Tensor):
            self.write(outputs)
        elif isinstance(outputs, dict):
            self.write_all(list(outputs.values()))
        elif isinstance(outputs, tuple | list):
            for part in outputs:
                self.write_all(part)


class Convolving(NamedTuple):
    """What decides how PyTorch convolves on one CPU thread."""

    itemsize: int
    strided: bool
    dilated: bool
    transposed: bool
    groups: int


def convolving(x: Shape, weight: Shape, out: Shape, setting: Convolving) -> int:
    """Return the most bytes that a convolution of PyTorch's CPU kernels takes, output included.

    Small single images go through columns (im2col); others through oneDNN, which copies input,
    weights and output into its own order, channels filled up to vectors of 16 (AVX-512; other
    processors fill up less).
    """
    kernel = math.prod(weight[2:])
    size = setting.itemsize
    whole = math.prod(out)
    few = x[0] == 1 and math.prod(x) <= FEW and min(weight[2:]) <= 3 and setting.groups == 1
    pointwise = kernel == 1 and not (setting.strided or setting.dilated)
    if (few or (pointwise and x[0] < 16 and setting.groups == 1)) and not setting.transposed:
        columns = 0 if pointwise else math.prod(x[1:2]) * kernel * math.prod(out[2:])
        return size * (columns + whole)
    if setting.transposed:
        if few:
            return size * (math.prod(weight[1:]) * math.prod(x[2:]) + whole)
        return size * 3 * whole
    held = _filled(x) if x[1] > 4 else 0  # an image of few channels is read as it is
    ordered = _filled(out)
    return size * max(held + math.prod(weight) + ordered, ordered + whole)


def _filled(shape: Shape) -> int:
    """Return the elements of a tensor whose channels fill whole vectors."""
    return math.prod(shape) // shape[1] * -(-shape[1] // VECTOR) * VECTOR


def stored_bytes(model: nn.Module) -> int:
    """Return the bytes of all weights as they are stored; a tied weight counts once.

    A module whose parameters are stored in fewer bits than their type has names them by
    `stored_bits() -> {"weight": 1}`; each parameter fills whole bytes. A buffer that holds packed
    weights (`packed_counts`) counts as it is. Running statistics fold into the layer before them,
    and do not count.
    """
    return sum((bits + 7) // 8 for bits in _bits(model))


def weights_of(module: nn.Module) -> dict[int, int]:
    """Return how many weights a module itself holds, by the identity of the tensor they are in.

    These are its parameters, and the buffers that it names by `packed_counts() -> {"packed": n}`,
    each with the number of weights that are packed into it.
    """
    counts = {id(p): p.numel() for p in module._parameters.values() if p is not None}
    for name, count in _packed(module).items():
        counts[id(module._buffers[name])] = count
    return counts


def weights_in(model: nn.Module) -> int:
    """Return how many weights a network holds, packed ones included; a tied one counts once."""
    found: dict[int, int] = {}
    for module in model.modules():
        found |= weights_of(module)
    return sum(found.values())


def _packed(module: nn.Module) -> dict[str, int]:
    if not hasattr(type(module), "packed_counts"):
        return {}
    return dict(module.packed_counts())  # type: ignore[operator]


def _bits(model: nn.Module) -> Iterable[int]:
    seen: set[int] = set()
    for module in model.modules():
        said = module.stored_bits() if hasattr(type(module), "stored_bits") else {}  # type: ignore[operator]
        held: dict[str, Tensor | None] = {**module._parameters}
        held |= {name: module._buffers[name] for name in _packed(module)}
        for name, tensor in held.items():
            if tensor is None or id(tensor) in seen:
                continue
            seen.add(id(tensor))
            yield tensor.numel() * int(said.get(name, 8 * tensor.element_size()))
