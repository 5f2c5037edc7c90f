"""The task of photographs to restore, as a study file names it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

from nasx.errors import NasxError
from nasx.tasks.base import Task
from nasx.tasks.degrade import NAMES, SIGMA, Degradation, degradation
from nasx.tasks.options import place, whole
from nasx.tasks.restore import Restore
from nasx.tasks.restore_data import Folders, load_photographs

NAME = "photos"


def photos(
    degradations: str | Sequence[str] = ("x2",),
    path: str | Sequence[str] | None = None,
    valid: str | Sequence[str] | None = None,
    test: str | Sequence[str] | None = None,
    patch: int = 32,
    patches: int = 2000,
    sigma: float | Sequence[float] = SIGMA,
) -> Task:
    """Restore photographs: enlarge by 2, 3 or 4, take away noise, or rendered streaks of rain.

    `path`, `valid` and `test` are image folders, or lists of them; without `path` the photographs
    inside scikit-image and scikit-learn. `sigma` is the noise of "denoise", a level or two bounds.
    """
    noise = _sigma(sigma)
    heads = _heads(degradations, noise)
    whole(NAME, "patch", patch, 8, 512)
    whole(NAME, "patches", patches, 1, 1_000_000)
    given = [_folders(option) for option in (path, valid, test)]
    if not given[0] and (given[1] or given[2]):
        raise NasxError(f"task '{NAME}': name the training images' folder, too (path)")
    folders = Folders(*given) if given[0] else None
    name = "+".join(folder.resolve().name for folder in given[0]) or NAME
    load = functools.partial(load_photographs, folders)
    return Restore(name, heads, load, patch=patch, patches=patches, sigma=noise)


def _heads(asked: object, sigma: tuple[float, float]) -> list[Degradation]:
    names = [asked] if isinstance(asked, str) else asked
    if not isinstance(names, list | tuple) or not names:
        raise NasxError(f"task '{NAME}': degradations must be one or more of {NAMES}")
    heads = []
    for name in names:
        found = degradation(name, sigma) if isinstance(name, str) else None
        if found is None:
            raise NasxError(f"task '{NAME}': there is no degradation {name!r}; valid are {NAMES}")
        if found in heads:
            raise NasxError(f"task '{NAME}': degradations: {name} is named twice")
        heads.append(found)
    return heads


def _sigma(asked: object) -> tuple[float, float]:
    bounds = [asked, asked] if isinstance(asked, int | float) else asked
    if isinstance(bounds, list | tuple) and len(bounds) == 2:
        low, high = bounds
        plain = all(isinstance(b, int | float) and not isinstance(b, bool) for b in bounds)
        if plain and SIGMA[0] <= low <= high <= SIGMA[1]:
            return float(low), float(high)
    raise NasxError(
        f"task '{NAME}': sigma must be a level from {SIGMA[0]:g} to {SIGMA[1]:g}, or two of them "
        f"as bounds, not {asked!r}"
    )


def _folders(asked: object) -> tuple[Path, ...]:
    if asked is None:
        return ()
    found = [place(NAME, one) for one in (asked if isinstance(asked, list | tuple) else [asked])]
    for path in found:
        if not path.is_dir():
            raise NasxError(f"task '{NAME}': {path} is a file; name a folder of images")
    return tuple(found)


TASKS: dict[str, Callable[..., Task]] = {NAME: photos}
