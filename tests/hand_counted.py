"""Networks with their multiply-accumulates worked by hand: the anchors of benchmarks/cost.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Case:
    """A network, the shapes of its inputs, and its MACs in closed form."""

    make: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...], ...]
    macs: int

    def inputs(self) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(0)
        return tuple(torch.randn(shape, generator=generator) for shape in self.shapes)


class Call(nn.Module):
    """A module whose forward is the given function of itself and its inputs."""

    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            shaped = isinstance(part, tuple)
            setattr(self, name, nn.Parameter(torch.ones(part)) if shaped else part)

    def forward(self, *inputs):
        return self.function(self, *inputs)


class Residual(nn.Module):
    """A body beside a shortcut."""

    def __init__(self, body, shortcut=None):
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x):
        return self.body(x) + (x if self.shortcut is None else self.shortcut(x))


class Gate(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, channels, squeezed):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.a, self.b = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.b(F.relu(self.a(self.pool(x)))))


class Subclassed(nn.Conv2d):
    """A counter that looks layers up by their exact type finds nothing for this one."""


def conv(c_in, c_out, kernel, stride=1, groups=1, act: Callable[[], nn.Module] | None = nn.ReLU):
    layers = [
        nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(c_out),
    ]
    return nn.Sequential(*layers, *([act()] if act else []))


def head(channels, classes):
    return nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)


RESNET = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))


def resnet50():
    layers = [conv(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1)]
    before = 64
    for width, blocks, first in RESNET:
        for stride in (first, *[1] * (blocks - 1)):
            body = nn.Sequential(
                conv(before, width, 1), conv(width, width, 3, stride), conv(width, 4 * width, 1)
            )
            last = before == 4 * width and stride == 1
            short = None if last else conv(before, 4 * width, 1, stride, act=None)
            layers.append(Residual(body, short))
            before = 4 * width
    return nn.Sequential(*layers, *head(2048, 1000))


def resnet50_macs():
    macs, side, before = 64 * 3 * 49 * 112**2, 56, 64
    for width, blocks, first in RESNET:
        for stride in (first, *[1] * (blocks - 1)):
            inner = side // stride
            macs += before * width * side**2 + 9 * width**2 * inner**2 + 4 * width**2 * inner**2
            if before != 4 * width:
                macs += 4 * before * width * inner**2
            before, side = 4 * width, inner
    return macs + 2048 * 1000


EFFICIENTNET = (  # expansion, channels, blocks, stride, kernel
    (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5), (6, 320, 1, 1, 3),
)  # fmt: skip


def inverted(c_in, c_out, expansion, kernel, stride, squeezed=0, act=nn.ReLU):
    inner = c_in * expansion
    body = nn.Sequential(
        *([conv(c_in, inner, 1, act=act)] if expansion > 1 else []),
        conv(inner, inner, kernel, stride, inner, act),
        *([Gate(inner, squeezed)] if squeezed else []),
        conv(inner, c_out, 1, act=None),
    )
    return Residual(body) if stride == 1 and c_in == c_out else body


def inverted_macs(c_in, c_out, expansion, kernel, stride, squeezed, side):
    inner, out = c_in * expansion, side // stride
    first = c_in * inner * side**2 if expansion > 1 else 0
    return first + inner * (kernel**2 * out**2 + 2 * squeezed + c_out * out**2)


def efficientnet_b0():
    layers, before = [conv(3, 32, 3, 2, act=nn.SiLU)], 32
    for expansion, channels, blocks, first, kernel in EFFICIENTNET:
        for stride in (first, *[1] * (blocks - 1)):
            squeezed = before // 4
            layers.append(inverted(before, channels, expansion, kernel, stride, squeezed, nn.SiLU))
            before = channels
    return nn.Sequential(*layers, conv(320, 1280, 1, act=nn.SiLU), *head(1280, 1000))


def efficientnet_b0_macs():
    macs, side, before = 32 * 27 * 112**2, 112, 32
    for expansion, channels, blocks, first, kernel in EFFICIENTNET:
        for stride in (first, *[1] * (blocks - 1)):
            macs += inverted_macs(before, channels, expansion, kernel, stride, before // 4, side)
            before, side = channels, side // stride
    return macs + 320 * 1280 * 49 + 1280 * 1000


MOBILE = [(16, 1), (16, 1), (32, 2), (32, 1), (64, 2), (64, 1)]


def mob16x2():
    """Inverted residuals: width 16, 2 blocks per stage, expansion 3, stem stride 2."""
    layers, before = [conv(3, 16, 3, 2)], 16
    for channels, stride in MOBILE:
        layers.append(inverted(before, channels, 3, 3, stride))
        before = channels
    return nn.Sequential(*layers, *head(64, 10))


def mob16x2_macs():
    macs, side, before = 16 * 27 * 16**2, 16, 16
    for channels, stride in MOBILE:
        macs += inverted_macs(before, channels, 3, 3, stride, 0, side)
        before, side = channels, side // stride
    return macs + 640


class TransformerBlock(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x):
        n, tokens, width = x.shape
        parts = self.qkv(self.first(x)).view(n, tokens, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        x = x + self.out(mixed.reshape(n, tokens, width))
        return x + self.mlp(self.second(x))


def three_times():
    layer = nn.Conv2d(16, 16, 3, padding=1, bias=False)
    return nn.Sequential(layer, layer, layer)


IMAGE = ((1, 16, 16, 16),)
DENSE = 32 * 16 * 9 * 16 * 16
WIDE = ((1, 32, 16, 16),)
ANCHORS = {
    "ResNet-50 at 224": Case(resnet50, ((1, 3, 224, 224),), resnet50_macs()),
    "EfficientNet-B0 at 224": Case(efficientnet_b0, ((1, 3, 224, 224),), efficientnet_b0_macs()),
    "ViT block, SDPA": Case(
        lambda: TransformerBlock(192, 3), ((1, 197, 192),), 12 * 197 * 192**2 + 2 * 197**2 * 192
    ),
    "mob16x2 at 32": Case(mob16x2, ((1, 3, 32, 32),), mob16x2_macs()),
    "grouped": Case(lambda: conv(32, 64, 3, groups=4, act=None)[:1], WIDE, 64 * 256 * 8 * 9),
    "transposed": Case(lambda: nn.ConvTranspose2d(32, 16, 4, 2, 1), WIDE, 32 * 256 * 16 * 16),
    "transposed, grouped": Case(
        lambda: nn.ConvTranspose2d(32, 16, 4, 2, 1, groups=4), WIDE, 32 * 256 * 4 * 16
    ),
    "x @ w.t() @ w": Case(
        lambda: Call(lambda m, x: x @ m.w.t() @ m.w, w=(128, 64)), ((1, 10, 64),), 20 * 64 * 128
    ),
    "F.conv2d": Case(
        lambda: Call(lambda m, x: F.conv2d(x, m.w, padding=1), w=(32, 16, 3, 3)), IMAGE, DENSE
    ),
    "einsum": Case(
        lambda: Call(lambda m, x: torch.einsum("bik,bjk->bij", x, x)), ((1, 20, 32),), 400 * 32
    ),
    "conv used 3 times": Case(three_times, IMAGE, 3 * DENSE // 2),
    "MultiheadAttention": Case(
        lambda: Call(
            lambda m, x: m.layer(x, x, x, need_weights=False)[0],
            layer=nn.MultiheadAttention(64, 4, batch_first=True),
        ),
        ((1, 20, 64),),
        4 * 20 * 64**2 + 2 * 20**2 * 64,
    ),
    "subclass of Conv2d": Case(lambda: Subclassed(16, 32, 3, padding=1), IMAGE, DENSE),
    "GRU": Case(lambda: nn.GRU(32, 64, batch_first=True), ((1, 10, 32),), 10 * 3 * 64 * 96),
    "conv with bias": Case(lambda: nn.Conv2d(16, 32, 3, padding=1), IMAGE, DENSE),
}
