"""Read the decisions of a network whose layers round their input: the codes, layer by layer.

A layer declares it by `decides(*inputs)`: the integers (codes, or signs as -1 and 1) that it
rounds its input to, in plain torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from nasx.errors import NasxError
from nasx.operators import deciding_layers
from nasx.parity import BATCH

LARGEST = 256 * 2**20  # bytes of codes that are kept for the check
SIZES = (torch.int8, torch.uint8, torch.int16, torch.int32)


class Twin(nn.Module):
    """A network that answers a flat list: its outputs, then the codes of every deciding layer.

    A layer that runs twice decides twice. `layers` names the codes of the last call.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.layers: list[str] = []
        self._codes: list[Tensor] = []

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return outputs and codes; the hooks of `twin` fill in the codes."""
        self._codes.clear()
        self.layers.clear()
        outputs = tree_leaves(self.network(x))
        return [*outputs, *self._codes]

    def note(self, name: str, layer: Any, inputs: tuple[Any, ...]) -> None:
        """Keep what a layer is about to decide."""
        codes = layer.decides(*inputs)
        if not isinstance(codes, Tensor) or codes.ndim == 0 or codes.is_complex():
            raise NasxError(
                f"{type(layer).__name__}.decides must return the codes of its input as one tensor "
                "(N, ...) of whole numbers"
            )
        again = sum(n.partition("#")[0] == name for n in self.layers)
        self.layers.append(f"{name}#{again + 1}" if again else name)
        self._codes.append(codes.to(torch.int32))


@contextmanager
def twin(network: nn.Module) -> Iterator[Twin | None]:
    """Give the twin of a network while the body runs; None where no layer decides."""
    layers = deciding_layers(network)
    if not layers:
        yield None
        return
    made = Twin(network).eval()
    hooks = [
        layer.register_forward_pre_hook(
            lambda layer, inputs, name=name: made.note(name, layer, inputs)
        )
        for name, layer in layers.items()
    ]
    try:
        yield made
    finally:
        for hook in hooks:
            hook.remove()


def decided(made: Twin, inputs: Tensor, most: int = LARGEST) -> tuple[list[Tensor], int]:
    """Return the codes of a network on inputs (N, ...), and how many of the inputs were run.

    Fewer than all where their codes would take more than `most` bytes; one batch at least.
    """
    parts: list[list[Tensor]] = []
    held = done = 0
    with torch.no_grad():
        for some in inputs.split(BATCH):  # type: ignore[no-untyped-call]
            if held >= most:
                break
            answers = made(some)
            codes = answers[len(answers) - len(made.layers) :]  # none where none was reached
            parts.append([narrow(c) for c in codes])
            held += sum(c.nbytes for c in parts[-1])
            done += len(some)
    return [narrow(torch.cat([c.int() for c in one])) for one in zip(*parts, strict=True)], done


def narrow(codes: Tensor) -> Tensor:
    """Return whole numbers in the smallest type that holds them."""
    low, high = (int(codes.min()), int(codes.max())) if codes.numel() else (0, 0)
    kind = next(t for t in SIZES if torch.iinfo(t).min <= low and high <= torch.iinfo(t).max)
    return codes.to(kind)


def save_case(
    path: Path,
    inputs: Tensor,
    outputs: list[Tensor],
    layers: list[str],
    codes: list[Tensor],
    wider: Sequence[Tensor] = (),
    alone: int | None = None,
    *,
    head: str = "",
    image: Sequence[Tensor] = (),
) -> None:
    """Write what `nasx.parity` holds the files against; `wider` is another input, its outputs.

    So many of the inputs as `alone` says are also run in batches of one. `head` is the one that the
    files are of, where there are several; `image` is an image of another size and what the network
    restores of it, in tiles.
    """
    from safetensors.torch import save_file

    tensors = {"inputs": inputs, **{f"output.{i}": y for i, y in enumerate(outputs)}}
    tensors |= {f"wider.{i}": y for i, y in enumerate(wider)}
    tensors |= {f"codes.{i}": y for i, y in enumerate(codes)}
    tensors |= dict(zip(("image", "restored"), image, strict=False))
    whole = {name: t.detach().contiguous().clone() for name, t in tensors.items()}
    said = {"layers": json.dumps(layers), "head": head}
    said |= {} if alone is None else {"alone": str(alone)}
    save_file(whole, path, metadata=said)
