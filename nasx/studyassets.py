"""Whether the trained networks that a study supplies fit the candidates it begins with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from nasx.errors import NasxError
from nasx.space import Space
from nasx.studyruntime import starts
from nasx.yamlmarks import Path as Keys

if TYPE_CHECKING:
    from nasx.shape import TaskShape
    from nasx.study import Study


def asset_faults(
    study: Study, classes: list[type[Space]], shape: TaskShape
) -> Iterator[tuple[Keys, str]]:
    """Yield the supplied files that are no weights, or those of another network.

    Asked are the candidates of `search.start` that need them; without this a search would find
    out trial by trial. A file that is not there is told elsewhere.
    """
    from nasx.assets import load_supplied

    told = set()
    for _, candidate in starts(study, classes) if study.assets else ():
        for name, asset in candidate.needs(shape).items():
            path = study.assets.get(name)
            if path is None or name in told or not Path(path).is_file():
                continue
            try:
                load_supplied(name, asset, path, shape)
            except NasxError as error:
                told.add(name)
                yield ("assets", name), str(error)
