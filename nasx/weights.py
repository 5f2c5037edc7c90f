"""Weights on disk: safetensors files, loaded strictly and never as pickles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from nasx.assets import ANEW
from nasx.errors import NasxError


def pack(tensors: Mapping[str, Tensor], **notes: str) -> bytes:
    """Return tensors as the bytes of a safetensors file with `notes` as its metadata.

    Tied weights are written under each of their names.
    """
    plain = {
        k: v.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for k, v in tensors.items()
    }
    return to_bytes(plain, metadata=notes)


def unpack(path: Path, remedy: str = ANEW) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a safetensors file; NasxError if it is not one."""
    try:
        with safe_open(path, framework="pt") as file:
            return {k: file.get_tensor(k) for k in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise unreadable(path, error, remedy) from error


def fill(model: nn.Module, tensors: Mapping[str, Tensor], source: str, remedy: str = "") -> None:
    """Load tensors into a network; NasxError names what is missing, unexpected or misshapen."""
    faults = misfit(model.state_dict(), tensors)
    if faults:
        also = f"; {remedy}" if remedy else ""
        raise NasxError(f"{source} does not fit the network: {faults}{also}")
    model.load_state_dict(dict(tensors))


def misfit(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """Say in what names and shapes `given` differs from `wanted`; nothing if in none."""
    shapes = [
        f"{k} is {tuple(given[k].shape)}, not {tuple(v.shape)}"
        for k, v in wanted.items()
        if k in given and given[k].shape != v.shape
    ]
    found = (
        ("missing", [k for k in wanted if k not in given]),
        ("unexpected", [k for k in given if k not in wanted]),
        ("of another shape", shapes),
    )
    return "; ".join(f"{what}: {_few(names)}" for what, names in found if names)


def unreadable(place: Path, error: Exception, remedy: str = ANEW) -> NasxError:
    """Return the error for a file that cannot be read as what it should be."""
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return NasxError(f"{place}: cannot be read ({reason}); {remedy}")


def _few(names: Iterable[str], most: int = 4) -> str:
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
