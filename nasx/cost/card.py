"""The cost card of a deployed network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from nasx.errors import NasxError
from nasx.operators import declared_by, kernel_of
from nasx.shape import Shape
from nasx.varying import varies, widest_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nasx.cost.energy import Energy, Model
    from nasx.cost.ops import Count

VARIES = (
    "the work depends on the input: operations and energy are those with everything open until "
    "the network is trained, then means over valid; macs_max and peak_bytes stay the most"
)


@dataclass(frozen=True)
class LayerCost:
    """One module's own share of the cost (children not included), per sample.

    `kernel` is what the layer says it runs on here, `operators` are those that it brings itself
    (see `nasx.operators`); both are empty for ordinary layers.
    """

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
    kernel: str = ""
    operators: tuple[str, ...] = ()


@dataclass(frozen=True)
class CostCard:
    """What a deployed network costs, per sample at `input`.

    `params` counts the deployed network, `params_trained` what training carries. `macs_max` is
    with every branch open; `macs` the mean over inputs (equal for networks without gates).
    `bytes` are the parameters as stored, `peak_bytes` the most that inputs and activations take
    at once. `unpriced` names operators whose cost is unknown: such a network stays off every
    front. `energy_uj` is modelled arithmetic (`nasx.cost.energy`), None where `energy_unpriced`,
    the share of operations that the table does not know, is not 0. `notes` are warnings for who
    reads the card.
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
    elementwise: int = 0
    energy_uj: float | None = None
    energy_unpriced: float = 0.0
    peak_bytes: int | None = None
    notes: tuple[str, ...] = ()
    unpriced: tuple[str, ...] = ()
    input: Shape = ()
    by_layer: tuple[LayerCost, ...] = field(default=(), repr=False)

    def axis(self, name: str) -> float | None:
        """Return the value of a static axis of `nasx.axes`."""
        if name == "flops":
            return 2.0 * self.macs
        value = getattr(self, name)
        return None if value is None else float(value)

    @property
    def kernels(self) -> dict[str, str]:
        """Return what layers say they run on, by the layer's name."""
        return {layer.name: layer.kernel for layer in self.by_layer if layer.kernel}

    @property
    def operators(self) -> dict[str, tuple[str, ...]]:
        """Return the operators that layers bring themselves, by the layer's name."""
        return {layer.name: layer.operators for layer in self.by_layer if layer.operators}

    def to_json(self) -> dict[str, Any]:
        """Return the card as JSON values, with `kernels` beside its fields."""
        return {**asdict(self), "kernels": self.kernels}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> CostCard:
        """Return the card written by `to_json`."""
        layers = tuple(
            LayerCost(
                **{
                    **layer,
                    "output": tuple(layer["output"]),
                    "operators": tuple(layer.get("operators", ())),
                }
            )
            for layer in data["by_layer"]
        )
        return cls(
            **{
                **{name: value for name, value in data.items() if name != "kernels"},
                "unpriced": tuple(data["unpriced"]),
                "notes": tuple(data.get("notes", ())),
                "input": tuple(data["input"]),
                "by_layer": layers,
            }
        )


def card_of(
    model: nn.Module,
    shape: Shape,
    *,
    trained: nn.Module | None = None,
    energy: Model = "arith",
    inputs: tuple[Tensor, ...] | None = None,
) -> CostCard:
    """Return what `model` costs on one sample of `shape` (C, H, W); the model is left as it was.

    A tuple of shapes makes one input each. `trained` is the network in training where it carries
    more than the deployed one, `energy` the model of energy. Where the work depends on the input
    (`nasx.varying`) everything is open, unless `inputs`, a batch of one, are the sample itself. A
    network that cannot take such an input is refused.
    """
    from nasx.cost import energy as modelled
    from nasx.cost.inputs import example, first_line
    from nasx.cost.memory import stored_bytes, weights_in
    from nasx.cost.ops import count

    moved = energy == "arith+mem"
    try:
        whole = model if inputs is not None else widest_of(model)
        given = example(model, shape, 1) if inputs is None else inputs
        counted = count(whole, *given, traffic=moved, real=inputs is not None)
    except NasxError:
        raise
    except Exception as error:
        raise NasxError(
            f"{type(model).__name__}: cannot count it on an input of {shape}: "
            f"{type(error).__name__}: {first_line(error)}"
        ) from error
    joules = modelled.energy(counted.by_number, counted.traffic)
    params = weights_in(model)
    return CostCard(
        params=params,
        params_trained=params if trained is None else weights_in(trained),
        bytes=stored_bytes(model),
        macs=counted.macs,
        macs_max=counted.macs,
        adds=counted.adds,
        shifts=counted.shifts,
        bit_ops=counted.bit_ops,
        lookups=counted.lookups,
        elementwise=counted.elementwise,
        energy_uj=joules.uj,
        energy_unpriced=joules.unpriced_share,
        peak_bytes=counted.peak_bytes,
        notes=(*_notes(counted, joules), *((VARIES,) if varies(model) else ())),
        unpriced=counted.unpriced,
        input=tuple(shape),
        by_layer=tuple(_layers(whole, counted)),
    )


def _layers(model: nn.Module, counted: Count) -> Iterator[LayerCost]:
    from nasx.cost.memory import weights_of

    seen: set[int] = set()
    for name, module in model.named_modules():
        own = weights_of(module)
        params = sum(n for i, n in own.items() if i not in seen)  # a tied weight: once
        seen.update(own)
        layer = counted.by_layer.get(name)
        kernel, operators = kernel_of(module), declared_by(module)
        if params or kernel or operators or (layer is not None and layer.ops):
            ops = layer.ops._asdict() if layer is not None else {"macs": 0}
            output = layer.output[1:] if layer is not None else ()
            kind = type(module).__name__
            yield LayerCost(
                name or kind, kind, params,
                output=output, kernel=kernel, operators=operators, **ops,
            )  # fmt: skip


def _notes(counted: Count, joules: Energy) -> Iterator[str]:
    if counted.elementwise_heavy:
        yield (
            f"{counted.elementwise:,} elementwise operations against "
            f"{counted.macs + counted.adds:,} MACs and additions: what this network computes, MACs "
            "do not show; give its layers count_ops"
        )
    if joules.without:
        yield (
            f"no energy: {joules.unpriced_share:.1%} of the operations have no entry in the table "
            f"({', '.join(joules.without)})"
        )
