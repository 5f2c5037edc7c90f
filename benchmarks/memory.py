"""Is the peak memory on a cost card what the allocator saw? Twelve networks, byte for byte.

    python benchmarks/memory.py

Counted: `nasx.cost.ops.count(...).peak_bytes`. Allocated: the highest sum of the memory events of
torch's profiler, from the making of the input to the end of one pass (one thread, inference).
Goal: within 10 % on 6 networks.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from nasx.cost.ops import count
from nasx.shape import Shape, TaskShape
from search_spaces.tinynet import TinyNet

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
from allocator import Attention, Residual, allocated

SMALL = TaskShape("classify", (3, 64, 64), 10)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.LSTM(64, 128, batch_first=True), nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x)[0][:, -1])


def plain(*widths: int) -> nn.Module:
    layers: list[nn.Module] = []
    for a, b in zip((3, *widths), widths, strict=False):
        layers += [nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers)


def residual(width: int) -> nn.Module:
    return nn.Sequential(
        Residual(3, width, 1), Residual(width, 2 * width, 2), Residual(2 * width, 4 * width, 2)
    )


def tinynet(name: str) -> tuple[nn.Module, Shape]:
    point = next(p for p in TinyNet.published if p.name == name)
    candidate = TinyNet.from_json(point.candidate)
    return candidate.build(point.shape), candidate.input_shape(point.shape)


def networks() -> dict[str, tuple[nn.Module, Shape]]:
    upward = nn.Sequential(
        nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU(), nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.ReLU()
    )
    dilated = nn.Sequential(
        nn.Conv2d(3, 32, 3, 1, 2, 2), nn.ReLU(), nn.Conv2d(32, 32, 3, 1, 4, 4), nn.AvgPool2d(2)
    )
    return {
        "EfficientNet-B0 at 224": tinynet("b0"),
        "TinyNet A at 192": tinynet("a"),
        "TinyNet E at 106": tinynet("e"),
        "micro base at 64": (TinyNet().build(SMALL), TinyNet().input_shape(SMALL)),
        "residual 16 at 32": (residual(16), (3, 32, 32)),
        "residual 16 at 128": (residual(16), (3, 128, 128)),
        "residual 8 at 128": (residual(8), (3, 128, 128)),
        "plain 16, 32, 64 at 64": (plain(16, 32, 64), (3, 64, 64)),
        "transformer, 197 x 192": (
            nn.Sequential(*(Attention(192, 3) for _ in range(4))),
            (197, 192),
        ),
        "transposed at 128": (upward, (3, 128, 128)),
        "dilated at 64": (dilated, (3, 64, 64)),
        "LSTM, 50 x 64": (Recurrent(), (50, 64)),
    }


def main() -> None:
    torch.set_num_threads(1)
    print("| network | counted | allocated | ratio |\n|---|---|---|---|")
    for name, (model, shape) in networks().items():
        counted = count(model.eval(), torch.zeros(1, *shape)).peak_bytes
        seen = allocated(model, shape)
        print(f"| {name} | {counted:,} | {seen:,} | {counted / seen:.3f} |")


if __name__ == "__main__":
    main()
