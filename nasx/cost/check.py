"""Our count beside those of other counters, with every difference explained."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from io import StringIO
from typing import Any

import torch
from torch import nn

from nasx.cost import against_fvcore, against_thop, against_torch
from nasx.cost.compared import Difference, Findings, Ours, ours
from nasx.cost.inputs import first_line
from nasx.cost.ops import count

__all__ = ["Difference", "Tally", "cross_check"]

Counting = Callable[[nn.Module, tuple[Any, ...], Ours], tuple[int, Findings]]
OTHERS: tuple[tuple[str, Counting], ...] = (
    (against_thop.NAME, against_thop.run),
    (against_torch.NAME, against_torch.run),
    (against_fvcore.NAME, against_fvcore.run),
)


@dataclass(frozen=True)
class Tally:
    """MACs of one counter, their ratio to ours, and differences that add up to all beyond ours.

    Where a counter failed, `macs` is None and `error` says why in one line. The ratio is None
    where there is nothing to divide by.
    """

    counter: str
    macs: int | None
    ratio: float | None
    differences: tuple[Difference, ...] = ()
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the tally as JSON values."""
        return asdict(self)


def cross_check(model: nn.Module, inputs: tuple[Any, ...]) -> list[Tally]:
    """Count `model(*inputs)` in eval mode by nasx, thop, torch's FlopCounterMode and fvcore.

    FLOPs of torch's are halved. The network is left as it was: the others see copies of it.
    """
    macs = count(model, *inputs).macs
    mine = ours(model, inputs)
    rows = [Tally("nasx", macs, 1.0)]
    return rows + [_tally(name, run, model, inputs, mine, macs) for name, run in OTHERS]


def _tally(
    name: str, run: Counting, model: nn.Module, inputs: tuple[Any, ...], mine: Ours, macs: int
) -> Tally:
    try:
        with _silently():
            theirs, findings = run(copy.deepcopy(model).eval(), inputs, mine)
    except ModuleNotFoundError as error:
        missing = (error.name or name).partition(".")[0]
        said = f"{missing} is not installed: pip install {name}"
        return Tally(name, None, None, error=said)
    except Exception as error:  # a counter's own fault must not hide what the others say
        return Tally(name, None, None, error=f"{type(error).__name__}: {first_line(error)}")
    ratio = theirs / macs if macs else None
    return Tally(name, theirs, ratio, tuple(findings.differences(theirs - macs)))


@contextmanager
def _silently() -> Iterator[None]:
    """Keep a counter from printing, warning, logging and drawing random numbers of ours."""
    logged = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            redirect_stdout(StringIO()),
            torch.random.fork_rng(devices=[]),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logged)
