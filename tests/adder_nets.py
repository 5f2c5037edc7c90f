"""A small network with adder layers, and what it is run on."""

import torch
from torch import nn

from search_spaces._layers.adder import AdderConv2d


def network() -> nn.Sequential:
    torch.manual_seed(0)
    made = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), AdderConv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(),
        AdderConv2d(16, 10, 1, bias=True), nn.BatchNorm2d(10), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )  # fmt: skip
    return made.to(memory_format=torch.channels_last)


def images(samples: int = 4) -> torch.Tensor:
    return torch.randn(samples, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def loss(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return model(x).pow(3).mean()
