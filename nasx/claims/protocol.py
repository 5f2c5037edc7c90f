"""The protocol: all that decides a claim's numbers, hashed and kept before the first trial.

A folder keeps every protocol that was ever begun in it (protocols.jsonl, only appended to), each
with its trials in a run folder of its own, so that none can be tried in silence.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nasx
from nasx.claims.model import Claim
from nasx.claims.plan import Planned
from nasx.files import append_json, read_json_lines
from nasx.provenance import commit

FILE = "protocols.jsonl"


@dataclass(frozen=True)
class Protocol:
    """The resolved claim, its networks, the hash of its data and the version of nasx."""

    content: dict[str, Any]

    @property
    def hash(self) -> str:
        """Return 12 hex digits over the content."""
        text = json.dumps(self.content, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def protocol_of(claim: Claim, planned: Sequence[Planned], data: str) -> Protocol:
    """Return the protocol of a claim; who runs it (`resources`) is no part of it."""
    said = claim.resolved()
    del said["resources"]
    arms = [p.to_json() for p in planned]
    content = {"claim": said, "arms": arms, "data": data, "nasx": nasx.__version__}
    code = _own_code(claim)
    return Protocol({**content, "code": code} if code else content)


def _own_code(claim: Claim) -> dict[str, str]:
    """Return the hashes of the user's own files that a claim executes; nasx's go by its version."""
    named = [claim.space, claim.task if isinstance(claim.task, str) else claim.task.get("name", "")]
    files = [Path(str(name).rpartition(":")[0]) for name in named if ".py:" in str(name)]
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files if f.is_file()}


def keep(folder: Path, protocol: Protocol) -> None:
    """Append a protocol to the folder's list, durably; one that stands there stays as it is."""
    if protocol.hash in {row["protocol"] for row in kept(folder)}:
        return
    row = {
        "protocol": protocol.hash,
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        **commit(Path(__file__).parent),
        "content": protocol.content,
    }
    append_json(folder / FILE, row)
    for place in (folder / FILE, folder):
        handle = os.open(place, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def kept(folder: Path) -> list[dict[str, Any]]:
    """Return every protocol begun in a folder, the oldest first."""
    return read_json_lines(folder / FILE)
