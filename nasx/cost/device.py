"""Which device a setting times on: `cpu`, `cuda`, `cuda:N`, or a part of a device model's name."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nasx.errors import NasxError

if TYPE_CHECKING:
    from nasx.study import Measure

GPU_RUNTIMES = frozenset[str]({"cuda"})


def wants_gpu(measure: Measure) -> bool:
    """Return whether a setting times on a GPU."""
    return measure.runtime in GPU_RUNTIMES or measure.device.startswith("cuda")


def models_here(gpu: bool) -> tuple[str, ...]:
    """Return the models of this machine: of its GPUs in their order, or of its CPU."""
    if not gpu:
        from nasx.cost import probe

        return (str(probe.machine()["cpu"]) or platform.machine(),)
    import torch

    return tuple(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))


def index_of(device: str, models: Sequence[str]) -> int | None:
    """Return which of a machine's models a setting's device means; None where it has none such."""
    kind, _, number = device.partition(":")
    if kind in ("cpu", "cuda"):
        index = int(number) if number else 0
        return index if index < len(models) else None
    return next((i for i, model in enumerate(models) if named(device, model)), None)


def named(device: str, model: str) -> bool:
    """Return whether `device` is part of a model's name, whatever the case and the spaces."""
    wanted, whole = (" ".join(text.casefold().split()) for text in (device, model))
    return wanted in whole


def model_here(measure: Measure) -> str | None:
    """Return the model of this machine that a setting means; None where it has none such."""
    models = models_here(wants_gpu(measure))
    index = index_of(measure.device, models)
    return None if index is None else models[index]


def demand_device(measure: Measure, timed: str | None = None) -> None:
    """Refuse a setting whose device this machine lacks, or is not the model that was `timed`.

    What lies behind `measure.via` is known only once it was timed.
    """
    if timed is None:
        if measure.via is None and model_here(measure) is None:
            raise NasxError(missing(measure, models_here(wants_gpu(measure))))
    elif measure.device.partition(":")[0] not in ("cpu", "cuda") and not named(
        measure.device, timed
    ):
        where = "behind measure.via" if measure.via else "here"
        raise NasxError(f"measure.device '{measure.device}': {where} is another model, {timed}")


def missing(measure: Measure, models: Sequence[str]) -> str:
    """Say that a machine has other models than a setting asks for."""
    kind = "GPU" if wants_gpu(measure) else "CPU"
    if not models:
        return (
            f"measure.device '{measure.device}': this machine has no {kind} that torch can use; "
            "choose another runtime, or install a torch built for it"
        )
    there = ", ".join(dict.fromkeys(models))
    return f"measure.device '{measure.device}': this machine has {kind} {there}"
