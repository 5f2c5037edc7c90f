"""A recipe's step bound to the parameters and the optimizer that it moves."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from nasx.errors import NasxError
from nasx.recipe import State, Step


class NotFinite(NasxError):
    """Say that a loss or a weight is not a finite number."""


class BoundStep:
    """One step of a phase on the current network; ValueError where it has no parameters."""

    def __init__(self, number: int, step: Step, state: State) -> None:
        groups = list(step.parameters(state))
        if not groups:
            raise ValueError(f"step {number} has no parameters")
        self.number, self.step = number, step
        self.optimizer: torch.optim.Optimizer = step.optimizer(groups)
        for group in self.optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        every = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.parameters: list[Tensor] = [p for p in every if p.requires_grad]

    @property
    def rate(self) -> float:
        """Return the learning rate that the first group was last moved with."""
        return float(self.optimizer.param_groups[0]["lr"])

    def update(self, state: State) -> float:
        """Move this step's parameters, and no other's, down its loss; return the loss.

        A loss that is not finite raises NotFinite before it reaches a weight.
        """
        loss = self.step.loss(state)
        value: float = loss.item()
        if not math.isfinite(value):
            raise NotFinite(f"the loss of step {self.number} is {value}")
        factor = self.step.factor(state.phase_progress)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        self.optimizer.zero_grad()
        loss.backward(inputs=self.parameters)  # type: ignore[no-untyped-call]
        if self.step.clip is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.step.clip)
        self.optimizer.step()
        if self.step.after is not None:
            with torch.no_grad():
                self.step.after(state)
        self.optimizer.zero_grad()  # scoring copies the network and needs the memory
        return value
