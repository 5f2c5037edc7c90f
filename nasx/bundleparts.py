"""The files of a bundle, head by head, and the cases that they are held against."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasx import parity
from nasx.errors import NasxError
from nasx.networkfiles import Part
from nasx.pathcases import Covering, covering, told
from nasx.varying import varies

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nasx.modelcard import About
    from nasx.tasks.tiles import Tiling

CASE = "case.safetensors"  # of the check, beside the bundle while it is made


@dataclass(frozen=True)
class Made:
    """What `write_parts` wrote: inputs checked on, constants among the weights, cases, heads.

    `ways` tells, by head, which ways the inputs take where the work depends on them.
    """

    inputs: Tensor
    constants: list[str]
    cases: list[Path]
    heads: dict[str, dict[str, Any]]
    ways: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Asked:
    """A network that is called without a head, and the inputs that its files are checked on."""

    network: nn.Module
    case: Covering


def parts_of(
    network: nn.Module, heads: Mapping[str, Tensor], more: Iterable[Tensor] = ()
) -> dict[str, Asked]:
    """Return the parts of a network that get files of their own, each with inputs, by head.

    One alone stands under "": its network is called as it is. `more` are batches among which its
    inputs are completed, where the work depends on them.
    """
    from nasx.onehead import one_head

    several, found = len(heads) > 1, {}
    for head, inputs in heads.items():
        single = one_head(network, head, inputs[:2]) if several else network
        case = Covering(inputs)
        if varies(single):
            case = covering(single, inputs, () if several else more)
        found[head] = Asked(single, case)
    return found


def write_parts(
    network: nn.Module,
    parts: Mapping[str, Asked],
    about: About,
    folder: Path,
    *,
    any_size: bool = False,
) -> Made:
    """Write the files of a network to `folder`, head by head, and their cases beside it."""
    from nasx.networkfiles import write_networks
    from nasx.onehead import known_of

    own, several = network.state_dict(), len(parts) > 1
    shared = {name: t.detach().clone() for name, t in own.items()} if several else {}
    title = f"{about.trial} of study {about.study}: a network of the space {about.space}"
    cases: list[Path] = []
    known, ways, used = {}, {}, []
    for head, asked in parts.items():
        single, inputs = asked.network, asked.case.inputs.contiguous()
        part = Part(head if several else "", tiling_for(single, about, inputs), shared)
        titled = f"{title}, head {head}" if several else title
        write_networks(single, titled, folder, inputs, any_size=any_size, part=part)
        cases.append(folder.parent / f"case{len(cases)}")
        cases[-1].mkdir()
        used.append(write_case(single, cases[-1], inputs, part, any_size=any_size))
        if varies(single):
            ways[head] = told(single, asked.case, used[-1])
        if several:
            known[head] = known_of(single, tuple(inputs.shape[1:]), part)
    return Made(used[0], [name for name in sorted(shared) if name not in own], cases, known, ways)


def tiling_for(network: nn.Module, about: About, inputs: Tensor) -> Tiling | None:
    """Return how images are cut for a network that restores them and takes one input side."""
    from nasx.tasks.tiles import fixed_side, tiling_of

    if "images" not in about.preprocessing or fixed_side(network) is None:
        return None
    return tiling_of(network, outputs_of(network, inputs[:1])[0].shape[-1] // inputs.shape[-1])


def write_case(
    network: nn.Module,
    scratch: Path,
    inputs: Tensor,
    part: Part | None = None,
    *,
    any_size: bool = False,
) -> Tensor:
    """Write what the files of one head are held against to `scratch`; return the inputs used.

    With `any_size` an input of another size is a part of it, and so it is, in tiles, where the
    files cut larger images. The twins of the files, with the codes of layers that decide, are
    written where there are any.
    """
    import torch

    from nasx.decisions import decided, save_case, twin
    from nasx.networkfiles import write_networks
    from nasx.tasks.tiles import tiled

    part = part or Part()
    outputs = outputs_of(network, inputs)
    alone = len(inputs) if varies(network) else None  # conditions stand on all of a batch
    wider: list[Tensor] = []
    image: list[Tensor] = []
    if any_size or part.tiling:
        whole = torch.cat([inputs[:1], inputs[-1:]], 3)
        other = torch.cat([whole, whole[:, :, : whole.shape[2] // 2]], 2)
        if part.tiling:
            how = part.tiling
            with torch.no_grad():
                mended = tiled(network, other, how.side, how.overlap, how.border, how.scale)
            image = [other[0], mended[0]]
        else:
            wider = [other, *outputs_of(network, other)]
    with twin(network) as made:
        codes, count = ([], 0) if made is None else decided(made, inputs)
        layers = [] if made is None else list(made.layers)
        count = count if layers else len(inputs)  # no layer decides, or none that it reaches
        inputs, few = inputs[:count], [y[:count] for y in outputs]
        save_case(
            scratch / CASE, inputs, few, layers, codes, wider, alone, head=part.head, image=image
        )
        if made is not None and layers:
            twins = scratch / "twins"
            twins.mkdir()
            own = Part(part.head)
            write_networks(made, "the twin of a network, with its codes", twins, inputs, part=own)
    return inputs


def outputs_of(network: nn.Module, inputs: Tensor) -> list[Tensor]:
    """Return a network's outputs for all inputs, run in batches; NasxError where not finite."""
    import torch
    from torch.utils._pytree import tree_leaves

    with torch.no_grad():
        batches = inputs.split(parity.BATCH)  # type: ignore[no-untyped-call]
        parts = [tree_leaves(network(some)) for some in batches]
    outputs = []
    for pieces in zip(*parts, strict=True):
        if not all(isinstance(y, torch.Tensor) for y in pieces):
            raise NasxError(
                f"the network answers a {type(pieces[0]).__name__}; export takes tensors only"
            )
        outputs.append(torch.cat(pieces))
    for y in outputs:
        if not bool(y.isfinite().all()):
            raise NasxError("the trained network's outputs are not finite; export another trial")
    return outputs
