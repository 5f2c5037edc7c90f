"""The cost card of a deployed network."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from nasx.shape import Shape


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
