"""Inputs that take every way through a network, to hold its exported files against.

Where the work depends on the input, a file could have frozen a branch and still be right on the
samples that take that branch. So every gate must be seen open and closed: on samples of valid
where they do it, else on images made of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasx.varying import paths_of, places, ways_of

BASES = 8  # samples that images are made of
DRAWS = 64  # batches of made-up images that are tried last
EDGE = 1e-4  # a change of this part of an input may not turn its path

Way = tuple[int, int]  # a place, and which way there


@dataclass(frozen=True)
class Covering:
    """Inputs (N, ...), those found for a rare way first; `made` of them are no samples of valid.

    `edge` of the samples were left out: rounding alone may send them another way.
    """

    inputs: Tensor
    made: int = 0
    edge: int = 0


def covering(network: nn.Module, inputs: Tensor, more: Iterable[Tensor] = ()) -> Covering:
    """Return `inputs` (N, ...), completed so that every way is taken that can be found.

    Ways that no input takes are looked for in the batches `more`, then in made-up images.
    """
    firm = _firm(network, inputs)
    kept = inputs[firm] if bool(firm.any()) else inputs
    seen = paths_of(network, kept)
    taken = {way for path in seen.tolist() for way in enumerate(path)}
    found: list[Tensor] = []
    for some in more:
        found += _new(network, some, taken)
    real = len(found)
    known = ways_of(network, paths_of(network, torch.cat([*found, kept])))
    wanted = {(i, k) for i, n in enumerate(known) for k in range(n)}
    for some in itertools.chain(_made(kept[:BASES]), _drawn(kept[:BASES])):
        if wanted <= taken:
            break
        found += _new(network, some, taken)
    return Covering(torch.cat([*found, kept]), len(found) - real, len(inputs) - len(kept))


def told(network: nn.Module, case: Covering, inputs: Tensor) -> dict[str, Any]:
    """Return what parity.json says of the ways that `inputs` (of the case) take."""
    seen = paths_of(network, inputs)
    ways = ways_of(network, seen)
    rows = [
        {"gate": name, "samples": torch.bincount(seen[:, i], minlength=n).tolist()}
        for i, (name, n) in enumerate(zip(places(network, len(ways)), ways, strict=True))
    ]
    never = [
        {"gate": row["gate"], "way": _way(k, len(row["samples"]))}
        for row in rows
        for k, count in enumerate(row["samples"])
        if not count
    ]
    return {"gates": rows, "never": never, "made": case.made, "edge": case.edge}


def _way(k: int, ways: int) -> str:
    return ("closed", "open")[k] if ways == 2 else f"way {k}"


def _new(network: nn.Module, some: Tensor, taken: set[Way]) -> list[Tensor]:
    """Return the first inputs that take ways not taken so far, and note these."""
    found: list[Tensor] = []
    paths = paths_of(network, some).tolist()
    if {way for path in paths for way in enumerate(path)} <= taken:
        return found
    firm = _firm(network, some).tolist()
    for i, path in enumerate(paths):
        if firm[i] and not set(enumerate(path)) <= taken:
            found.append(some[i : i + 1])
            taken |= set(enumerate(path))
    return found


def _firm(network: nn.Module, inputs: Tensor) -> Tensor:
    """Return which inputs (N,) keep their path under changes larger than rounding."""
    generator = torch.Generator().manual_seed(0)
    paths = paths_of(network, inputs)
    firm = torch.ones(len(inputs), dtype=torch.bool)
    for scale in (1 - EDGE, 1 + EDGE):
        noise = torch.randn(inputs.shape, generator=generator) * EDGE * float(inputs.std())
        firm &= (paths_of(network, inputs * scale + noise) == paths).all(1)
    return firm


def _made(x: Tensor) -> Iterator[Tensor]:
    """Yield batches made of samples: fainter, stronger, lighter, mixed, flat, nearer, further."""
    low, high = float(x.min()), float(x.max())
    middle = x.mean(tuple(range(1, x.ndim)), keepdim=True)
    for contrast in (0.5, 0.25, 0.0, 2.0, 4.0):
        yield middle + contrast * (x - middle)
    for light in (0.5, -0.5, 1.0, -1.0, 2.0, -2.0):
        yield x + light * (high - low)
    yield low + high - x
    yield (x + x.roll(1, 0)) / 2
    for level in (0.0, 0.25, 0.5, 0.75, 1.0):
        yield torch.full_like(x[:1], low + level * (high - low))
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(0))
    yield low + noise * (high - low)
    if x.ndim == 4:
        height, width = x.shape[2:]
        for parts in (2, 3, 4):  # many small things, and one large one
            small = F.adaptive_avg_pool2d(x, (-(-height // parts), -(-width // parts)))
            yield small.repeat(1, 1, parts, parts)[:, :, :height, :width]
            near = x[:, :, : -(-height // parts), : -(-width // parts)]
            yield F.interpolate(near, (height, width), mode="bilinear", align_corners=False)
        yield x[:, :, :, :1].expand_as(x).contiguous()


def _drawn(x: Tensor) -> Iterator[Tensor]:
    """Yield batches drawn at random: pairs of samples mixed, each channel scaled and shifted.

    The first are gentle, the last as strong as a gate may need whose choice hardly moves.
    """
    generator = torch.Generator().manual_seed(0)
    low, high = float(x.min()), float(x.max())
    ones = [1] * (x.ndim - 2)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator)

    for i in range(DRAWS):
        strength = 1 + 7 * i / (DRAWS - 1)
        share = torch.rand(len(x), *[1] * (x.ndim - 1), generator=generator)
        mixed = share * x + (1 - share) * x[torch.randperm(len(x), generator=generator)]
        gain = (0.5 * strength * normal(*mixed.shape[:2], *ones)).exp2()
        light = 0.25 * strength * (high - low) * normal(*mixed.shape[:2], *ones)
        noise = 0.05 * strength * (high - low) * normal(*mixed.shape)
        yield gain * mixed + light + (noise if i % 2 else 0.0)
