"""Image processing transformers: a head and a tail for each degradation around one body.

    model = Ipt(IptPlan(("x2", "derain"), side=24))
    model(inputs, "derain")                    # (N, 3, 24, 24) to (N, 3, s 24, s 24)
    model.traced(inputs, "derain")             # with the decoder's tokens, for contrastive losses

Which head answers is an argument; nothing in the network remembers it. Images are in [0, 1].
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasx.errors import SpaceError
from nasx.tasks.degrade import NAMES, degradation, scale_of
from search_spaces._layers.encoder_decoder import DecoderLayer, EncoderLayer, mlp
from search_spaces._layers.patches import from_patches, to_patches
from search_spaces._layers.upscale import Skip, enlarging

MEAN = (0.4488, 0.4371, 0.4040)  # of DIV2K, as in EDSR (arXiv:1707.02921)
ONE = "all"  # the name of a head that all degradations share
Position = Literal["once", "every", "none"]


@dataclass(frozen=True)
class IptPlan:
    """All that decides a network; the defaults, with side 48 and 64 features, are the published.

    `names` are the degradations, `side` that of the input, `heads` those of attention. `position`
    is learnt and added before the encoder, in every layer, or not at all. `blocks` of two
    convolutions of `kernel` stand in each head. `shared` gives all degradations one head, and one
    tail for each scale. `tied` runs one layer several times. `up` "direct" enlarges in the last
    convolution. With a `skip` the output is added to the enlarged input, which is what the
    untrained network gives. `alike` starts all layers from the same numbers. `asked` are the names
    that stay when it is deployed; none: all.
    """

    names: tuple[str, ...]
    side: int = 48
    features: int = 64
    patch: int = 3
    encoder: int = 12
    decoder: int = 12
    heads: int = 12
    mlp: int = 4
    position: Position = "once"
    blocks: int = 2
    kernel: int = 5
    shared: bool = False
    tied: bool = False
    up: Literal["shuffle", "direct"] = "shuffle"
    skip: Skip = "none"
    alike: bool = False
    asked: tuple[str, ...] = ()

    @property
    def dim(self) -> int:
        """Return the width of a token: the features of a patch."""
        return self.features * self.patch**2

    @property
    def tokens(self) -> int:
        """Return how many patches an input has."""
        return (self.side // self.patch) ** 2

    def fault(self) -> str | None:
        """Say what makes this network impossible, or return None."""
        unknown = [name for name in self.names if degradation(name, (10, 70)) is None]
        if unknown:
            return f"there is no degradation '{unknown[0]}'; valid are {NAMES}"
        if self.side % self.patch:
            low = self.side // self.patch * self.patch
            near = " or ".join(str(s) for s in (low, low + self.patch) if s)
            return (
                f"images of {self.side} x {self.side} pixels cannot be cut into patches of "
                f"{self.patch} x {self.patch}: give the task patch {near}, or the space another "
                "patch"
            )
        if self.dim % self.heads:
            return f"tokens of {self.dim} numbers cannot be split into {self.heads} heads"
        return None


class Shift(nn.Module):
    """Move colours by a constant, as published: a 1x1 convolution that nobody trains."""

    weight: Tensor
    bias: Tensor

    def __init__(self, sign: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.eye(3).view(3, 3, 1, 1), persistent=False)
        self.register_buffer("bias", sign * torch.tensor(MEAN), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the moved images (N, 3, H, W)."""
        return functional.conv2d(x, self.weight, self.bias)


class Residual(nn.Module):
    """Two convolutions with a ReLU between them, added to their input."""

    def __init__(self, features: int, kernel: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, kernel, padding=kernel // 2)
        self.conv2 = nn.Conv2d(features, features, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H, W)."""
        y: Tensor = x + self.conv2(functional.relu(self.conv1(x)))
        return y


def head(plan: IptPlan) -> nn.Sequential:
    """Return what makes features of an image, (N, 3, S, S) to (N, C, S, S)."""
    first = nn.Conv2d(3, plan.features, 3, padding=1)
    return nn.Sequential(first, *(Residual(plan.features, plan.kernel) for _ in range(plan.blocks)))


def tail(plan: IptPlan, scale: int) -> nn.Sequential:
    """Return what makes an image of features, (N, C, S, S) to (N, 3, s S, s S)."""
    width, layers = plan.features, nn.Sequential()
    direct = plan.up == "direct" and scale > 1
    if not direct:
        for factor in {1: [], 4: [2, 2]}.get(scale, [scale]):
            layers.append(nn.Conv2d(width, width * factor**2, 3, padding=1))
            layers.append(nn.PixelShuffle(factor))
    last = nn.Conv2d(width, 3 * scale**2 if direct else 3, 3, padding=1)
    if plan.skip != "none":
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
    layers.append(last)
    if direct:
        layers.append(nn.PixelShuffle(scale))
    return layers


class Body(nn.Module):
    """Encoder and decoder over the patches of features, whatever is to be undone."""

    def __init__(self, plan: IptPlan) -> None:
        super().__init__()
        dim, units = plan.dim, plan.dim * plan.mlp
        self.runs = plan.encoder, plan.decoder
        self.every = plan.position == "every"
        self.encoding = nn.Linear(dim, dim)
        placed = plan.position != "none"
        self.position = nn.Parameter(torch.randn(plan.tokens, dim)) if placed else None
        self.encoder = _stack(plan, plan.encoder, lambda: EncoderLayer(dim, plan.heads, units))
        self.decoder = _stack(plan, plan.decoder, lambda: DecoderLayer(dim, plan.heads, units))
        self.mlp = mlp(dim, units)

    def forward(self, tokens: Tensor, question: Tensor) -> tuple[Tensor, Tensor]:
        """Return what becomes features, and the decoder's output, both (N, T, dim)."""
        x = self.encoding(tokens) + tokens
        place = self.position if self.every else None
        if self.position is not None and not self.every:
            x = x + self.position
        for layer in self._layers(self.encoder, self.runs[0]):
            x = layer(x, place)
        memory = x
        for layer in self._layers(self.decoder, self.runs[1]):
            x = layer(x, memory, question, place)
        return self.mlp(x) + x, x

    def _layers(self, held: nn.ModuleList, runs: int) -> Iterator[nn.Module]:
        for i in range(runs):
            yield held[i % len(held)]  # tied: the same one again


def _stack(plan: IptPlan, depth: int, make: Callable[[], nn.Module]) -> nn.ModuleList:
    """Return the layers of one half. Published code copies the first; ours start apart."""
    first = make()
    more = range(0 if plan.tied else depth - 1)
    return nn.ModuleList([first, *(copy.deepcopy(first) if plan.alike else make() for _ in more)])


class Ipt(nn.Module):
    """A built `IptPlan`; inputs are squares of `fixed_side` pixels, larger images go in tiles."""

    def __init__(self, plan: IptPlan) -> None:
        super().__init__()
        fault = plan.fault()
        if fault:
            raise SpaceError(fault)
        self.plan, self.heads, self.fixed_side = plan, plan.names, plan.side
        self.shift = Shift(-1)
        self.back = Shift(1) if plan.skip == "none" else None
        self.entries = nn.ModuleDict()
        self.tails = nn.ModuleDict()
        self.queries = nn.ParameterDict()
        self.skips = nn.ModuleDict()
        for name in plan.names:
            scale = scale_of(name)
            if self.head_of(name) not in self.entries:
                self.entries[self.head_of(name)] = head(plan)
            if self.tail_of(name) not in self.tails:
                self.tails[self.tail_of(name)] = tail(plan, scale)
            enlarged = enlarging(plan.skip, 3, scale)
            if enlarged is not None:
                self.skips[f"by{scale}"] = enlarged
            self.queries[name] = torch.randn(plan.tokens, plan.dim)
        self.body = Body(plan)

    def head_of(self, name: str) -> str:
        """Return under which name the head of a degradation stands."""
        return ONE if self.plan.shared else name

    def tail_of(self, name: str) -> str:
        """Return under which name the tail of a degradation stands."""
        return f"by{scale_of(name)}" if self.plan.shared else name

    def forward(self, inputs: Tensor, head: str | None = None) -> Tensor:
        """Return the restored images; without a head's name the first one answers."""
        return self.traced(inputs, head)[0]

    def traced(
        self, inputs: Tensor, head: str | None = None, question: str | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the restored images, and the tokens (N, T, dim) that the decoder gave.

        `question` asks the decoder for another degradation than the head's. SpaceError for a head
        that the network does not have, and for images of another size.
        """
        name = self._known(head)
        asked = name if question is None else self._known(question)
        if inputs.shape[-2:] != (self.fixed_side, self.fixed_side):
            raise SpaceError(
                f"this network takes images of {self.fixed_side} x {self.fixed_side} pixels, not "
                f"{inputs.shape[-2]} x {inputs.shape[-1]}: cut larger ones into tiles"
            )
        features = self.entries[self.head_of(name)](self.shift(inputs))
        patch = self.plan.patch
        answered, tokens = self.body(to_patches(features, patch), self.queries[asked])
        features = features + from_patches(answered, patch, self.fixed_side // patch)
        y: Tensor = self.tails[self.tail_of(name)](features)
        if self.back is not None:
            return self.back(y), tokens
        return y + self.skips[f"by{scale_of(name)}"](inputs), tokens

    def _known(self, name: str | None) -> str:
        if name is None:
            return self.plan.names[0]
        if name not in self.queries:
            raise SpaceError(
                f"this network has no head '{name}', it was trained on "
                f"{', '.join(self.plan.names)}: ask for one of those, or train it on {name}, too"
            )
        return name
