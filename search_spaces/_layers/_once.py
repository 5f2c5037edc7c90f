"""Make what a kernel wants of a weight once: `once(weight, "int8", make)`.

An operator is handed the stored weight at every call, also where a compiled program calls it and
there is no layer left to keep anything on. So what is made is kept here, under the memory that the
weight lies in, for as long as that lives; it is in no state_dict, copy or exported file. A weight
that was written to in between is prepared anew.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import torch
from torch import Tensor

Made = TypeVar("Made")

_known: dict[int, tuple[weakref.ref[Any], dict[Hashable, tuple[object, Any]]]] = {}


def once(weight: Tensor, how: Hashable, make: Callable[[], Made]) -> Made:
    """Return `make()`, or what it returned before for this weight under the same `how`."""
    storage = weight.untyped_storage()
    key = storage._cdata
    found = _known.get(key)
    if found is None or found[0]() is None:
        found = weakref.ref(storage, lambda gone: _forget(key, gone)), {}
        _known[key] = found
    place = (weight.storage_offset(), weight.numel(), how)
    held = found[1].get(place)
    if held is not None and _unchanged(weight, held[0]):
        made: Made = held[1]
        return made
    made = make()
    found[1][place] = _state(weight), made
    return made


def _state(weight: Tensor) -> object:
    """Return what tells a later write: the version, or where PyTorch counts none, the content."""
    return weight.clone() if weight.is_inference() else weight._version


def _unchanged(weight: Tensor, state: object) -> bool:
    if isinstance(state, Tensor):
        return weight.is_inference() and torch.equal(weight, state)
    return not weight.is_inference() and weight._version == state


def _forget(key: int, gone: weakref.ref[Any]) -> None:
    found = _known.get(key)
    if found is not None and found[0] is gone:
        del _known[key]
