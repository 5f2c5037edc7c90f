"""Which output channels of a network can be pruned, and what goes with each.

    for channels in coupled(resnet(plan), "scatter"):
        print(channels.name, channels.size)           # stages.0.0.conv1 16

Known are the networks of _backbones (blocks of kind "conv"), _resnets and _vgg. They are read as
streams: a stream is one width of channels, with the convolutions that write it and the layers
that read it. What a block passes on inside has one writer; a residual stream has several.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Literal, get_args

from torch import nn

from nasx.errors import SpaceError
from search_spaces._backbones import MeanAndMax, Residual
from search_spaces._resnets import Block, Bottleneck, Pad

Mode = Literal["scatter", "inner", "group"]
Part = Literal["stem", "shortcut", "classifier"]

# Of these, zero makes zero, channel by channel: a pruned channel stays away behind them.
ZERO_STAYS = (nn.ReLU, nn.SiLU, nn.Hardswish, nn.ReLU6, nn.GELU, nn.Tanh, nn.LeakyReLU, nn.Identity)
POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, MeanAndMax)


@dataclass(frozen=True)
class Channels:
    """One set of output channels that is kept or dropped as one.

    Named by its convolution, or "stream.I" where several write it; `stage` is the stage it belongs
    to, None for a stem or a head alone. `convs` write it, `norms` are the BatchNorms behind each
    ("" where none follows), `readers` the layers whose inputs shrink with it. Where a convolution
    is pruned alone but adds to a residual stream, `widen` is the place at which its channels go
    back to the full width. `pads` are option-A shortcuts into the set.
    """

    name: str
    size: int
    stage: int | None
    convs: tuple[str, ...]
    norms: tuple[str, ...]
    readers: tuple[str, ...] = ()
    widen: str = ""
    pads: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Writer:
    conv: str
    norm: str
    widen: str
    part: str  # stem, shortcut or body
    stage: int | None
    size: int


@dataclass
class _Stream:
    writers: list[_Writer]
    readers: list[str] = field(default_factory=list)
    pads: list[str] = field(default_factory=list)
    classified: bool = False  # whether the classifier reads it

    def listed(self, mode: Mode, untouched: Collection[str]) -> Iterator[Channels]:
        """Yield what can be pruned of this stream."""
        parts = {w.part for w in self.writers} | ({"classifier"} if self.classified else set())
        alone = len(self.writers) == 1 and not self.pads
        if alone or mode == "group":
            if not parts & set(untouched):
                yield self._together(alone)
        elif mode == "scatter":
            for w in self.writers:
                if w.part not in untouched:
                    yield Channels(w.conv, w.size, w.stage, (w.conv,), (w.norm,), widen=w.widen)

    def _together(self, alone: bool) -> Channels:
        last = self.writers[-1]
        return Channels(
            last.conv if alone else f"stream.{last.stage}",
            last.size,
            last.stage,
            tuple(w.conv for w in self.writers),
            tuple(w.norm for w in self.writers),
            tuple(self.readers),
            pads=tuple(self.pads),
        )


def coupled(
    model: nn.Module, mode: Mode, untouched: Collection[Part] | None = None
) -> tuple[Channels, ...]:
    """Return what can be pruned of a network, from input to output.

    "scatter" lists every convolution alone: one that adds to a residual stream puts its channels
    back into the full width, so nothing else shrinks. "inner" lists only convolutions whose
    output is read inside their block. "group" lists all that write one residual stream as one.

    `untouched` parts keep their channels: the stem's and the shortcuts' outputs, the classifier's
    inputs. By default all three, as the published numbers have it, and none in "group", where a
    stream has no ratio without its stem and shortcuts. SpaceError names a module whose channels
    hang together in a way that is not known, and a network in which nothing can be pruned.
    """
    if mode not in get_args(Mode):
        raise SpaceError(f"there is no mode '{mode}' of pruning: take {', '.join(get_args(Mode))}")
    if untouched is None:
        untouched = () if mode == "group" else get_args(Part)
    if wrong := set(untouched) - set(get_args(Part)):
        raise SpaceError(
            f"there is no part '{min(wrong)}' to leave untouched: take {', '.join(get_args(Part))}"
        )
    streams = _Reading(model).streams
    order = {name: i for i, (name, _) in enumerate(model.named_modules())}
    listed = (c for stream in streams for c in stream.listed(mode, untouched))
    found = tuple(sorted(listed, key=lambda c: order[c.convs[-1]]))
    if not found:
        raise SpaceError(
            f"mode '{mode}' finds nothing to prune in this network while "
            f"{', '.join(untouched) or 'nothing'} stay untouched: take another mode"
        )
    return found


class _Reading:
    """One walk through a network, from input to output."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.streams: list[_Stream] = []
        self.stage: int | None = None
        children = dict(model.named_children())
        if list(children)[:2] != ["stem", "stages"] or len(children) < 3:
            raise SpaceError(
                f"{type(model).__name__} is no 'stem', 'stages' and a head to prune: take one "
                "of _backbones, _resnets or _vgg"
            )
        self.now = self._open(self._chain("stem", "stem"))
        for i, stage in enumerate(children["stages"].children()):
            if isinstance(stage, nn.Sequential):
                self.stage = i
                for j, block in stage.named_children():
                    self._block(f"stages.{i}.{j}", block)
            else:
                self._block(f"stages.{i}", stage)
        self.stage = None
        *between, last = list(children)[2:]
        for name in between:
            self._through(self._chain(name, "body"))
        self._classifier(last)

    def _open(self, *writers: _Writer) -> _Stream:
        self.streams.append(_Stream(list(writers)))
        return self.streams[-1]

    def _through(self, writer: _Writer) -> None:
        self.now.readers.append(writer.conv)
        self.now = self._open(writer)

    def _block(self, path: str, block: nn.Module) -> None:
        if isinstance(block, Residual):
            self._unwidened(path, block.widen)
            if self.stage is None or not block.skip:  # stages lie flat: a new width begins one
                self.stage = 0 if self.stage is None else self.stage + 1
            writer = self._chain(f"{path}.layers", "body", f"{path}.widen")
            if block.skip:
                self.now.readers.append(writer.conv)
                self.now.writers.append(writer)
            else:
                self._through(writer)
        elif isinstance(block, Block | Bottleneck):
            self._convolutions(path, block)
        elif isinstance(block, nn.Sequential):
            self._through(self._chain(path, "body"))
        else:
            raise _unsupported(path, block, "a block of this kind is not known")

    def _convolutions(self, path: str, block: Block | Bottleneck) -> None:
        self._unwidened(path, block.widen)
        if isinstance(block, Block) and block.twice:
            raise _unsupported(path, block, "it sums after every convolution")
        count = block.convolutions
        writers = [
            self._writer(f"{path}.conv{k}", f"{path}.bn{k}", f"{path}.widen", "body")
            for k in range(1, count + 1)
        ]
        for k, writer in enumerate(writers, 1):
            self._passes(f"{path}.act{k}")
            if k < count:
                self._open(writer).readers.append(writers[k].conv)
        self.now.readers.append(writers[0].conv)
        shortcut = f"{path}.shortcut"
        if isinstance(block.shortcut, nn.Identity):
            self.now.writers.append(writers[-1])
        elif isinstance(block.shortcut, Pad):
            self.now.readers.append(shortcut)
            self.now = self._open(writers[-1])
            self.now.pads.append(shortcut)
        else:
            aside = self._chain(shortcut, "shortcut", shortcut)
            self.now.readers.append(aside.conv)
            self.now = self._open(aside, writers[-1])

    def _chain(self, path: str, part: str, widen: str = "") -> _Writer:
        """Return the writer of convolution, BatchNorm and activation in a row, pools between."""
        row = self.model.get_submodule(path)
        if not isinstance(row, nn.Sequential):
            raise _unsupported(path, row, "convolution, BatchNorm and activation were expected")
        conv = norm = ""
        for name, layer in row.named_children():
            here = f"{path}.{name}"
            if isinstance(layer, nn.BatchNorm2d) and conv and not norm:
                norm = here
            elif type(layer) in POOLS:
                continue
            elif conv and any(True for _ in layer.parameters()):
                raise _unsupported(here, layer, "known is one convolution, BatchNorm, activation")
            elif conv:
                self._passes(here)
            else:
                conv = here
        return self._writer(conv or path, norm, widen or path, part)

    def _writer(self, conv: str, norm: str, widen: str, part: str) -> _Writer:
        layer = self.model.get_submodule(conv)
        if type(layer) is not nn.Conv2d:
            raise _unsupported(conv, layer, "only plain convolutions are pruned")
        if layer.groups != 1:
            raise _unsupported(conv, layer, "its channels are in groups")
        if norm and type(self.model.get_submodule(norm)) is not nn.BatchNorm2d:
            raise _unsupported(norm, self.model.get_submodule(norm), "BatchNorm was expected")
        return _Writer(conv, norm, widen, part, self.stage, layer.out_channels)

    def _passes(self, path: str) -> None:
        layer = self.model.get_submodule(path)
        if type(layer) not in ZERO_STAYS:
            raise _unsupported(path, layer, "a pruned channel would not stay zero behind it")

    def _unwidened(self, path: str, widen: nn.Module) -> None:
        if type(widen) is not nn.Identity:
            raise SpaceError(f"{path} has been pruned already: prune the dense network once")

    def _classifier(self, path: str) -> None:
        row = self.model.get_submodule(path)
        reader = ""
        for name, layer in row.named_children():
            if type(layer) in (nn.Linear, nn.Conv2d) and not reader:
                reader = f"{path}.{name}"
            elif reader and isinstance(layer, nn.BatchNorm2d):
                continue  # of the logits
            elif not isinstance(layer, (*POOLS, nn.Flatten, nn.Dropout)):
                raise _unsupported(f"{path}.{name}", layer, "a linear layer was expected")
        if not reader:
            raise _unsupported(path, row, "it has no linear layer")
        self.now.readers.append(reader)
        self.now.classified = True


def _unsupported(path: str, module: nn.Module, why: str) -> SpaceError:
    return SpaceError(f"{path} ({type(module).__name__}) cannot be pruned: {why}")
