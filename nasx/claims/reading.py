"""Read a claim file: YAML text to a checked Claim, with every fault told at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from nasx import registry
from nasx.claims.meaning import CLAIM, meaning_faults
from nasx.claims.model import Claim
from nasx.errors import MissingData, StudyError
from nasx.studyfile import file_of, read


def load(path: str | Path, overrides: Sequence[str] = ()) -> Claim:
    """Return the claim of a file, or of a shipped claim's name; refuse all faults together.

    As `nasx.load` does for studies: StudyError for faults, MissingData where only the data fail.
    """
    file = file_of(path, registry.claims, CLAIM.noun)
    claim, source = read(file, path, overrides, CLAIM)
    claim, faults, missing = meaning_faults(claim, file.resolve().parent)
    for keys, message in [*faults, *missing]:
        source.add(keys, message, of_key=keys in source.document.keys and keys[0] != "primary")
    source.refuse(StudyError if faults else MissingData)
    return claim


def listed() -> list[dict[str, Any]]:
    """Return the shipped claims: name, hypothesis, space and CPU hours."""
    rows = []
    for name, file in registry.claims().items():
        text = yaml.safe_load(file.read_text(encoding="utf-8"))
        rows.append({"name": name, **{k: text[k] for k in ("hypothesis", "space", "hours")}})
    return rows
