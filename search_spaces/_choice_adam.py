"""AdamW for parameters that hold one relaxed choice per row, with one scale of steps per choice."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class ChoiceAdam(torch.optim.AdamW):
    """AdamW that normalises the gradients of one choice together, in groups with `choices`.

    There, parameters (..., m) hold the m logits of a choice in their last dimension, and the second
    moment is the mean over them: an update keeps the proportions of the exact gradient, and needs
    1 + 1/m numbers of state per logit in place of 2. Other groups are AdamW's. Betas and epsilon
    are AdamW's defaults unless a group says otherwise.
    """

    def __init__(self, groups: Iterable[Any], lr: float) -> None:
        super().__init__(groups, lr=lr, weight_decay=0.0, fused=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Move every parameter that has a gradient; return what `closure` returned, if given."""
        value = None
        if closure is not None:
            with torch.enable_grad():
                value = closure()
        held: list[tuple[Tensor, Tensor]] = []
        for group in self.param_groups:
            if not group.get("choices"):
                continue
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._choose(parameter, parameter.grad, group)
                    held.append((parameter, parameter.grad))
                    parameter.grad = None  # so that AdamW leaves it alone
        super().step()
        for parameter, gradient in held:
            parameter.grad = gradient
        return value

    def _choose(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter[..., :1])
        first, second = group["betas"]
        state["step"] += 1
        steps = float(state["step"])
        size = torch.linalg.vector_norm(gradient, dim=-1, keepdim=True)
        state["exp_avg"].lerp_(gradient, 1 - first)
        state["exp_avg_sq"].lerp_(size.square_().div_(gradient.shape[-1]), 1 - second)
        scale = state["exp_avg_sq"].div(1 - second**steps).sqrt_().add_(group["eps"])
        parameter.addcdiv_(state["exp_avg"], scale, value=-group["lr"] / (1 - first**steps))
