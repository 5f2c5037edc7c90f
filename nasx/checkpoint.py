"""Checkpoints of a training: a folder is replaced as a whole, and tensors are loaded strictly.

A save writes FOLDER.new, renames FOLDER to FOLDER.old, FOLDER.new to FOLDER, and drops the old
one. A kill between any two of these leaves FOLDER or FOLDER.old complete; `find` says which.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from nasx.errors import NasxError
from nasx.outline import outline
from nasx.weights import fill, pack, unpack, unreadable

if TYPE_CHECKING:
    from nasx.training import Training

WEIGHTS = "weights.safetensors"  # the network in training
DEPLOYED = "deployed.safetensors"  # decided and recalibrated; of a finished training only
STATE = "state.json"
REST = "training.pt"  # optimizers, companions, generators


def save(training: Training, folder: Path) -> None:
    """Replace `folder` by a checkpoint of `training` as it stands; a full disk is an OSError."""
    at, rest = training.state, io.BytesIO()
    state = {
        "key": training.key,
        "space": training.candidate.name,
        "candidate": training.candidate.values(),
        "recipe": outline(training.recipe),
        "input": list(training.input),
        "seed": training.seed,
        "full": training.full,
        "samples": training.samples,
        "phase": training.phase,
        "begun": training.begun,
        "batches": training.batches,
        "order": training.order.where(),
        "decisions": plain(at.decisions),
        "notes": plain(at.notes),
        "curve": training.losses.to_json(),
    }
    torch.save(
        {
            "flags": _flags(at.model),
            "companions": {
                name: (_flags(network), dict(network.state_dict()))
                for name, network in at.companions.items()
            },
            "optimizers": [step.optimizer.state_dict() for step in training.steps],
            "random": training.random.state,
            "generator": at.generator.get_state(),
        },
        rest,
    )
    files = {
        WEIGHTS: pack(at.model.state_dict(), decisions=json.dumps(state["decisions"])),
        REST: rest.getvalue(),
        STATE: json.dumps(state, indent=1).encode(),
    }
    if training.samples >= training.full:
        files[DEPLOYED] = pack(training.deployed().state_dict())
    replace_folder(folder, files)


def load(training: Training, folder: Path) -> None:
    """Put `training` where the checkpoint in `folder` was taken."""
    place = find(folder)
    saved = read_state(place)
    own = {"key": training.key, "seed": training.seed, "full": training.full}
    for name, value in own.items():
        if saved.get(name) != value:
            raise NasxError(
                f"{folder}: this checkpoint has {name} {saved.get(name)}, the training {value}; "
                "continue it with what it was begun with, or delete it"
            )
    try:
        rest = torch.load(place / REST, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise unreadable(place / REST, error) from error
    _restore(training, place, saved, rest)


def _restore(training: Training, place: Path, saved: dict[str, Any], rest: dict[str, Any]) -> None:
    at, candidate, shape = training.state, training.candidate, training.task.shape
    at.decisions, at.notes = saved["decisions"], saved["notes"]
    with training.random:
        at.model = training.placed(candidate.rebuild(shape, at.decisions))
        training.make_companions()
    fill(at.model, unpack(place / WEIGHTS)[0], str(place / WEIGHTS))
    _set_flags(at.model, rest["flags"])
    if set(at.companions) != set(rest["companions"]):
        raise NasxError(
            f"{place}: the recipe's companions are {sorted(at.companions)}, the checkpoint's "
            f"{sorted(rest['companions'])}; let Recipe.companions make all of them"
        )
    for name, (flags, tensors) in rest["companions"].items():
        fill(at.companions[name], tensors, f"{place}: companion '{name}'")
        _set_flags(at.companions[name], flags)
    training.samples, training.phase = saved["samples"], saved["phase"]
    training.begun, training.batches = saved["begun"], saved["batches"]
    training.losses.put_back(saved["curve"])
    training.order.put_back(saved["order"])
    training.steps = []
    if training.begun:
        training.bind_steps()
    try:
        for step, state in zip(training.steps, rest["optimizers"], strict=True):
            step.optimizer.load_state_dict(state)
    except ValueError as error:
        raise NasxError(
            f"{place}: the recipe has other steps than when this was saved ({error}); "
            "delete it to begin anew"
        ) from error
    at.generator.set_state(rest["generator"])
    training.random.state = rest["random"]


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as JSON would give them back; NasxError for one that JSON cannot hold."""
    try:
        read: dict[str, Any] = json.loads(json.dumps(values, default=lambda v: v.tolist()))
    except (TypeError, ValueError, AttributeError) as error:
        raise NasxError(
            f"decisions and notes of a training must be numbers, text, lists and dicts: {error}"
        ) from error
    return read


def _flags(model: nn.Module) -> dict[str, list[str]]:
    return {
        "frozen": [name for name, p in model.named_parameters() if not p.requires_grad],
        "resting": [name for name, m in model.named_modules() if not m.training],
    }


def _set_flags(model: nn.Module, flags: dict[str, list[str]]) -> None:
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in flags["frozen"])
    for name, module in model.named_modules():
        module.training = name not in flags["resting"]


def replace_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Make `folder` hold exactly `files`, atomically and durably; a full disk is an OSError."""
    new, old = _beside(folder, ".new"), _beside(folder, ".old")
    try:
        if new.exists():  # half-written by a process that was killed
            shutil.rmtree(new)
        new.mkdir(parents=True)
        for name, content in files.items():
            _write(new / name, content)
        _sync_folder(new)
        if folder.exists():
            if old.exists():
                shutil.rmtree(old)
            folder.rename(old)
        new.rename(folder)
        _sync_folder(folder.parent)
        if old.exists():
            shutil.rmtree(old)
    except OSError:
        shutil.rmtree(new, ignore_errors=True)
        raise


def replace_file(path: Path, content: bytes) -> None:
    """Make `path` hold `content`, atomically and durably; a full disk is an OSError."""
    new = _beside(path, f".{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(new, content)
        new.replace(path)
        _sync_folder(path.parent)
    except OSError:
        new.unlink(missing_ok=True)
        raise


def find(folder: Path) -> Path:
    """Return where the complete checkpoint of `folder` lies; NasxError if there is none."""
    for place in (folder, _beside(folder, ".old")):
        if (place / STATE).is_file():
            return place
    raise NasxError(f"{folder}: there is no checkpoint here")


def read_state(place: Path) -> dict[str, Any]:
    """Return the plain values of the checkpoint at `place`."""
    try:
        state: dict[str, Any] = json.loads((place / STATE).read_bytes())
    except (OSError, ValueError) as error:
        raise unreadable(place, error) from error
    return state


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
