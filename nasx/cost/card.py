"""The cost card of a deployed network."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from nasx.errors import NasxError
from nasx.shape import Shape

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class LayerCost:
    """One module's own share of the cost (children not included), per sample."""

    name: str
    kind: str
    params: int
    macs: int
    adds: int = 0
    shifts: int = 0
    bit_ops: int = 0
    lookups: int = 0
    elementwise: int = 0
    output: Shape = ()


@dataclass(frozen=True)
class CostCard:
    """What a deployed network costs, per sample at `input`.

    `params` counts the deployed network, `params_trained` what training carries. `macs_max` is
    with every branch open; `macs` the mean over inputs (equal for networks without gates).
    `unpriced` names operators whose cost is unknown: such a network stays off every front.
    A quantity that nothing here can price is None.
    """

    params: int
    params_trained: int
    bytes: int
    macs: int
    macs_max: int
    adds: int = 0
    shifts: int = 0
    bit_ops: int = 0
    lookups: int = 0
    energy_uj: float | None = None
    peak_bytes: int | None = None
    unpriced: tuple[str, ...] = ()
    input: Shape = ()
    by_layer: tuple[LayerCost, ...] = field(default=(), repr=False)

    def axis(self, name: str) -> float | None:
        """Return the value of a static axis of `nasx.axes`."""
        if name == "flops":
            return 2.0 * self.macs
        value = getattr(self, name)
        return None if value is None else float(value)

    def to_json(self) -> dict[str, Any]:
        """Return the card as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> CostCard:
        """Return the card written by `to_json`."""
        layers = tuple(
            LayerCost(**{**layer, "output": tuple(layer["output"])}) for layer in data["by_layer"]
        )
        return cls(
            **{
                **data,
                "unpriced": tuple(data["unpriced"]),
                "input": tuple(data["input"]),
                "by_layer": layers,
            }
        )


def card_of(model: nn.Module, shape: Shape, *, trained: nn.Module | None = None) -> CostCard:
    """Return what `model` costs on one sample of `shape` (C, H, W); the model is left as it was.

    A tuple of shapes makes one input each. `trained` is the network in training where it carries
    more than the deployed one. `bytes` are the parameters at their own type. A network that
    cannot take such an input is refused.
    """
    from nasx.cost.inputs import example, first_line
    from nasx.cost.ops import count

    try:
        counted = count(model, *example(model, shape, 1))
    except Exception as error:
        raise NasxError(
            f"{type(model).__name__}: cannot count it on an input of {shape}: "
            f"{type(error).__name__}: {first_line(error)}"
        ) from error
    seen: set[int] = set()
    layers = []
    for name, module in model.named_modules():
        own = {id(p): p.numel() for p in module._parameters.values() if p is not None}
        params = sum(n for i, n in own.items() if i not in seen)  # a tied weight: once
        seen.update(own)
        layer = counted.by_layer.get(name)
        if params or (layer is not None and layer.ops):
            ops = asdict(layer.ops) if layer is not None else {"macs": 0}
            output = layer.output[1:] if layer is not None else ()
            kind = type(module).__name__
            layers.append(LayerCost(name or kind, kind, params, output=output, **ops))
    params = sum(p.numel() for p in model.parameters())
    return CostCard(
        params=params,
        params_trained=params if trained is None else sum(p.numel() for p in trained.parameters()),
        bytes=sum(p.numel() * p.element_size() for p in model.parameters()),
        macs=counted.macs,
        macs_max=counted.macs,
        adds=counted.adds,
        shifts=counted.shifts,
        bit_ops=counted.bit_ops,
        lookups=counted.lookups,
        unpriced=counted.unpriced,
        input=tuple(shape),
        by_layer=tuple(layers),
    )
