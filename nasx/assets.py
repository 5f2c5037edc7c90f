"""Assets: trained networks that other trials start from (a dense net, a teacher, a body).

An asset is trained when it is first asked for, once, whoever asks: others wait. It lies in
FOLDER/KEY.safetensors, and KEY.json says what it is and what it cost.
"""

from __future__ import annotations

import contextlib
import copy
import fcntl
import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nasx.errors import NasxError
from nasx.files import write_json

if TYPE_CHECKING:
    from torch import nn

    from nasx.shape import TaskShape
    from nasx.space import Space
    from nasx.tasks.base import Task

ANEW = "delete it to begin anew"


@dataclass(frozen=True)
class Asset:
    """A trained network of `candidate`, made with `samples` of its own recipe on first demand.

    `seed` None is the seed of the training that starts from it: trials with one seed share the
    network, a replicate has its own.
    """

    candidate: Space
    samples: int
    seed: int | None = 0

    def seeded(self, seed: int) -> Asset:
        """Return this asset with a seed: its own, or the given one where it has none."""
        return self if self.seed is not None else replace(self, seed=seed)

    def key(self, shape: TaskShape) -> str:
        """Return 12 hex digits, equal exactly for equal network, recipe, samples and seed."""
        what = [self.candidate.key(shape), self.samples, self.seed]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:12]


def load_assets(
    needs: Mapping[str, Asset],
    supplied: Mapping[str, str | Path],
    folder: Path,
    task: Task,
    *,
    device: str = "cpu",
    seed: int = 0,
) -> dict[str, nn.Module]:
    """Return the networks of `Space.needs` by name, in eval mode; train those not there yet.

    `seed` is the one of the training that starts from them.

    `supplied` names files to take instead of training. A name there that is not needed is left
    alone: another space of the study may need it.
    """
    found = {}
    for name, asset in needs.items():
        if name in supplied:
            found[name] = load_supplied(name, asset, supplied[name], task.shape)
        else:
            own = asset.seeded(seed)
            path = obtain(own, folder, task, supplied=supplied, device=device)
            found[name] = load_asset(asset, path, task.shape)
    return found


def obtain(
    asset: Asset,
    folder: Path,
    task: Task,
    *,
    supplied: Mapping[str, str | Path] = {},
    device: str = "cpu",
) -> Path:
    """Return the asset's file in `folder`; train it first if it is not there.

    One process trains, the others wait for it. `supplied` serves what the asset itself needs.
    """
    from nasx.checkpoint import replace_file
    from nasx.outline import outline
    from nasx.training import Training
    from nasx.weights import pack

    asset = asset.seeded(0)
    assert asset.seed is not None
    key = asset.key(task.shape)
    path = folder / f"{key}.safetensors"
    if path.is_file():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with _turn(folder / f"{key}.lock"):
        if path.is_file():  # made while we waited
            return path
        start = time.process_time()
        needs = asset.candidate.needs(task.shape)
        training = Training(
            asset.candidate,
            task,
            full=asset.samples,
            seed=asset.seed,
            device=device,
            assets=load_assets(needs, supplied, folder, task, device=device, seed=asset.seed),
        )
        for _ in training.run(asset.samples):
            pass
        network = training.recalibrated(copy.deepcopy(training.model))
        note = {
            "key": key,
            "space": asset.candidate.name,
            "candidate": asset.candidate.values(),
            "seed": asset.seed,
            "samples": training.samples,
            "cpu_seconds": round(time.process_time() - start, 3),
            "recipe": outline(training.recipe),
            "decisions": training.state.decisions,
            "scores": training.score("valid"),
        }
        write_json(folder / f"{key}.json", note)
        # Last, because the file's presence says that the asset is complete.
        decisions = json.dumps(training.state.decisions)
        replace_file(path, pack(network.state_dict(), decisions=decisions))
    return path


def load_supplied(name: str, asset: Asset, path: str | Path, shape: TaskShape) -> nn.Module:
    """Return the asset's network with the weights that a study names for it, in eval mode."""
    remedy = (
        f"give weights of {asset.candidate.name} {asset.candidate.in_effect()} as safetensors, or "
        f"leave '{name}' out of 'assets:' to have it trained"
    )
    try:
        return load_asset(asset, Path(path), shape, remedy)
    except NasxError as error:
        raise NasxError(f"assets.{name}: {error}") from error


def load_asset(asset: Asset, path: Path, shape: TaskShape, remedy: str = ANEW) -> nn.Module:
    """Return the asset's network with the weights of a file, in eval mode.

    The file is one of `obtain`, weights.safetensors of a checkpoint, or the user's own. NasxError
    names the tensors that are missing, unexpected or of another shape, and what to do: `remedy`.
    """
    from nasx.weights import fill, unpack, unreadable

    if not path.is_file():
        raise NasxError(f"{path}: there is no such asset; correct the path under 'assets:'")
    tensors, notes = unpack(path, remedy)
    try:
        decisions = dict(json.loads(notes.get("decisions", "{}")))
    except (TypeError, ValueError) as error:
        raise unreadable(path, error, remedy) from error
    model = asset.candidate.rebuild(shape, decisions)
    fill(model, tensors, str(path), remedy)
    return model.eval()


@contextlib.contextmanager
def _turn(path: Path) -> Iterator[None]:
    """Wait for an exclusive lock on a file; the system frees it when its holder dies."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
