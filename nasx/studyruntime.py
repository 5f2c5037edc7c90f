"""Whether a study's runtime can time the networks that its search begins with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from nasx import registry
from nasx.operators import WITHOUT, no_simulation, operators_of
from nasx.search.trained import wants_latency
from nasx.space import Space
from nasx.yamlmarks import Path as Keys

if TYPE_CHECKING:
    from nasx.shape import TaskShape
    from nasx.study import Study


def runtime_faults(
    study: Study, classes: list[type[Space]], shape: TaskShape
) -> Iterator[tuple[Keys, str]]:
    """Yield what is wrong where latency is asked for of operators that the runtime lacks.

    Built are the deployed networks of `search.start`. Candidates met later fail by themselves,
    before they are trained (`nasx.search.gate`).
    """
    import torch

    if not wants_latency(study) or study.measure.runtime not in WITHOUT:
        return
    for name, candidate in starts(study, classes):
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                network = candidate.decide(candidate.build(shape))
            own = operators_of(network)
        except Exception:  # it cannot be built: the search says so, with its trial
            continue
        if own:
            yield ("measure", "runtime"), f"measure.runtime: {no_simulation(name, own)}"
            return


def starts(study: Study, classes: list[type[Space]]) -> Iterator[tuple[str, Space]]:
    """Yield the candidates that a search begins with, each with what it is in words."""
    for cls in classes:
        domains = registry.study_domains(study, cls)
        for name in study.search.start:
            if name == "baseline":
                defaults = {leaf: domain.default for leaf, domain in domains.items()}
                yield f"the baseline of {cls.name}", cls.from_flat(defaults)
            for point in cls.published:
                if point.name == name:
                    yield f"{cls.name} {name}", cls.from_json(point.candidate)
