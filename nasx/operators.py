"""What layers say of operators that plain torch does not have: arithmetic, kernels, decisions.

    class Distance(nn.Module):
        references = {"nasx::distance": distance}  # the same arithmetic in plain torch
        kernel = "distance (avx2)"  # what really runs; an attribute or a property

        def decides(self, x): ...                    # the codes that it rounds its input to

nasx asks every layer for these three and knows none by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from nasx.errors import NasxError

if TYPE_CHECKING:
    from torch import nn

Reference = Callable[..., Any]
WITHOUT = ("onnxruntime",)  # runtimes that have no operators of our own


def references_of(network: nn.Module) -> dict[str, Reference]:
    """Return what the layers' operators compute, by the operator's name ("nasx::distance").

    NasxError for an entry that is no function, and where two layers disagree on an operator.
    """
    found: dict[str, Reference] = {}
    for module in network.modules():
        for name, function in _declared(module).items():
            if not (isinstance(name, str) and "::" in name and callable(function)):
                raise NasxError(
                    f"{type(module).__name__}.references must map names of operators "
                    f'("nasx::name") to functions in plain torch, and holds {name!r}: {function!r}'
                )
            if found.setdefault(name, function) is not function:
                raise NasxError(
                    f"{type(module).__name__}.references: another layer gives {name} another "
                    "function; let both name the same one"
                )
    return found


def operators_of(network: nn.Module) -> dict[str, tuple[str, ...]]:
    """Return the operators of our own by the name of the layer that runs on them."""
    return {
        name or type(module).__name__: operators
        for name, module in network.named_modules()
        if (operators := declared_by(module))
    }


def declared_by(module: nn.Module) -> tuple[str, ...]:
    """Return the names of the operators that one layer brings."""
    return tuple(map(str, _declared(module)))


def kernel_of(module: nn.Module) -> str:
    """Return what a layer says it runs on, "" where it says nothing."""
    said = getattr(module, "kernel", "")
    return said if isinstance(said, str) else ""  # a depthwise layer may keep its size there


def kernels_of(network: nn.Module) -> dict[str, str]:
    """Return what layers say they run on, by the layer's name."""
    return {
        name or type(module).__name__: said
        for name, module in network.named_modules()
        if (said := kernel_of(module))
    }


def deciding_layers(network: nn.Module) -> dict[str, nn.Module]:
    """Return the layers that round their input to codes or signs, and say to which (`decides`)."""
    return {
        name or type(module).__name__: module
        for name, module in network.named_modules()
        if callable(getattr(type(module), "decides", None))
    }


def no_simulation(what: str, operators: Mapping[str, Iterable[str]]) -> str:
    """Say why onnxruntime times no network with operators of our own."""
    layer, names = next(iter(operators.items()))
    others = f" (and {len(operators) - 1} more layers)" if len(operators) > 1 else ""
    return (
        f"{what}: layer '{layer}'{others} runs on {', '.join(names)}, which onnxruntime does not "
        "have: it would time a simulation in other operators; set measure.runtime: aot or eager"
    )


def _declared(module: nn.Module) -> Mapping[str, Reference]:
    found = getattr(module, "references", None)
    return found if isinstance(found, Mapping) else {}
