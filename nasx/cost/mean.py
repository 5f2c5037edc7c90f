"""The cost of a network whose work depends on the input: the mean over real samples.

    card = mean_card(network, (b.inputs for b in task.batches("valid", shape, 256)), most)

Samples are grouped by the path they take; of each path one sample is counted, on its numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nasx.cost.card import CostCard, LayerCost, card_of
from nasx.errors import NasxError
from nasx.varying import paths_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nasx.cost.energy import Model
    from nasx.tasks.base import Task

MEANS = ("macs", "adds", "shifts", "bit_ops", "lookups", "elementwise")
READ = 256  # samples per batch of a task
Path = tuple[int, ...]
Weighed = list[tuple[float, CostCard]]  # the share of the samples that take a path, and its cost


def mean_cost(network: nn.Module, task: Task, most: CostCard, energy: Model = "arith") -> CostCard:
    """Return the mean cost over the whole valid split of a task; see `mean_card`."""
    batches = task.batches("valid", most.input, READ)
    return mean_card(network, (batch.inputs for batch in batches), most, energy)


def mean_card(
    network: nn.Module, batches: Iterable[Tensor], most: CostCard, energy: Model = "arith"
) -> CostCard:
    """Return the card of a trained network: operations and energy are means over all samples.

    `most` is the card of its widest form: `macs_max`, parameters, bytes and peak memory are that
    one's. Counts are rounded, each layer's by itself. NasxError where a path costs more MACs than
    `most`, for then limits on the most were held against too little.
    """
    counts, samples = _by_path(network, batches)
    weighed: Weighed = []
    for path, sample in samples.items():
        card = card_of(network, most.input, inputs=(sample,), energy=energy)
        if card.macs > most.macs_max:
            raise NasxError(
                f"{type(network).__name__}: the path {path} takes {card.macs:,} MACs, its widest() "
                f"only {most.macs_max:,}: make widest() run everything that may run"
            )
        weighed.append((counts[path] / counts.total(), card))
    energies = [card.energy_uj for _, card in weighed]
    known = [e for e in energies if e is not None]
    shares = [share for share, _ in weighed]
    return replace(
        _with_means(most, weighed),
        energy_uj=_mean(shares, known) if len(known) == len(energies) else None,
        energy_unpriced=max(card.energy_unpriced for _, card in weighed),
        unpriced=tuple(sorted({name for _, card in weighed for name in card.unpriced})),
        by_layer=tuple(_layers(weighed, most)),
    )


def _by_path(
    network: nn.Module, batches: Iterable[Tensor]
) -> tuple[Counter[Path], dict[Path, Tensor]]:
    """Return how many samples take each path, and the first of them as a batch of one."""
    counts: Counter[Path] = Counter()
    samples: dict[Path, Tensor] = {}
    for inputs in batches:
        for i, path in enumerate(map(tuple, paths_of(network, inputs).tolist())):
            counts[path] += 1
            samples.setdefault(path, inputs[i : i + 1])
    return counts, samples


def _with_means(most: CostCard, weighed: Weighed) -> CostCard:
    shares = [share for share, _ in weighed]
    means: dict[str, Any] = {
        name: round(_mean(shares, [getattr(card, name) for _, card in weighed])) for name in MEANS
    }
    return replace(most, **means)


def _layers(weighed: Weighed, most: CostCard) -> Iterable[LayerCost]:
    """Yield every layer of the widest form with the mean of its operations; 0 where it is shut."""
    by_name = [(share, {layer.name: layer for layer in card.by_layer}) for share, card in weighed]
    for layer in most.by_layer:
        costs: dict[str, Any] = {
            k: round(sum(s * getattr(c[layer.name], k) for s, c in by_name if layer.name in c))
            for k in MEANS
        }
        yield replace(layer, **costs)


def _mean(shares: list[float], values: list[float]) -> float:
    return sum(share * value for share, value in zip(shares, values, strict=True))
