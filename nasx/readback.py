"""Trained networks read back from checkpoints, for whoever exports, times or scores them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from nasx.checkpoint import DEPLOYED, WEIGHTS, find, read_state
from nasx.errors import NasxError
from nasx.randomness import derive
from nasx.recalibrate import recalibrate
from nasx.weights import fill, unpack

if TYPE_CHECKING:
    from nasx.shape import TaskShape
    from nasx.space import Space
    from nasx.tasks.base import Task


def load_trained(candidate: Space, shape: TaskShape, folder: Path) -> nn.Module:
    """Return the network of a checkpoint as training left it, not decided.

    Its BatchNorm statistics are those of training: scores come from `load_deployed`. NasxError
    where there is no checkpoint, or one of another candidate.
    """
    place, saved = _place(candidate, shape, folder)
    model = candidate.rebuild(shape, saved["decisions"])
    fill(model, unpack(place / WEIGHTS)[0], str(place / WEIGHTS))
    return model


def load_deployed(candidate: Space, shape: TaskShape, folder: Path) -> nn.Module:
    """Return the network of a finished training that was scored: decided, in eval mode."""
    place, _ = _place(candidate, shape, folder)
    path = place / DEPLOYED
    if not path.is_file():
        raise NasxError(f"{folder}: this training is not finished; continue its search")
    model = candidate.decide(load_trained(candidate, shape, folder))
    fill(model, unpack(path)[0], str(path))
    return model.eval()


def deployed_network(candidate: Space, task: Task, folder: Path) -> nn.Module:
    """Return the network that `Training.score` scored at the checkpoint, finished or not."""
    place, saved = _place(candidate, task.shape, folder)
    if (place / DEPLOYED).is_file():
        return load_deployed(candidate, task.shape, folder)
    model = candidate.decide(load_trained(candidate, task.shape, folder))
    size, seed = saved["recipe"]["batch"], derive(saved["seed"], "statistics")
    recalibrate(model, task, candidate.input_shape(task.shape), size, seed)
    return model


def _place(candidate: Space, shape: TaskShape, folder: Path) -> tuple[Path, dict[str, Any]]:
    place, key = find(folder), candidate.key(shape)
    saved = read_state(place)
    if saved.get("key") != key:
        raise NasxError(
            f"{folder}: this checkpoint has key {saved.get('key')}, the candidate {key}; "
            "name the candidate it was trained with"
        )
    return place, saved
