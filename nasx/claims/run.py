"""Run a claim: plan its networks, keep the protocol, train what is missing, give the verdict."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nasx.claims.foreseen import foreseen
from nasx.claims.found import Found, find
from nasx.claims.front import followed
from nasx.claims.listed import Armed, Listed, listing
from nasx.claims.model import Claim
from nasx.claims.plan import plan
from nasx.claims.protocol import keep, protocol_of
from nasx.errors import NasxError, NoTrialCompleted
from nasx.files import demand_space, locked, write_json
from nasx.search.evaluate import Evaluator
from nasx.search.opening import continued, opened
from nasx.search.search import drive
from nasx.search.showing import Showing, left_tidy

if TYPE_CHECKING:
    from nasx.terminal import Display

RESULT = "claim.json"


def run_claim(
    claim: Claim,
    out: str | Path | None = None,
    *,
    evaluate: Evaluator | None = None,
    display: Display | None = None,
    address: str | None = None,
    front: str | Path | None = None,
    command: str = "",
) -> Found:
    """Run a claim, or continue it, in the folder `out` (default runs/claims/NAME).

    Each protocol has its trials in a run folder of its own in there, named by the protocol's
    hash. `evaluate` replaces training; `front` is the run folder of a search whose front the result
    describes beside the claim, `command` what it says of how it was made.
    Raises Interrupted, or NasxError for a folder in use or a network that cannot be.
    """
    folder = Path(out) if out is not None else Path("runs") / "claims" / claim.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NasxError(
            f"{folder} cannot be a claim's folder ({error.strerror}); give --out for another one"
        ) from error
    seen = None if front is None else followed(front)
    in_use = f"{folder} is in use by another nasx claim"
    with left_tidy(display), locked(folder / "lock", in_use):
        demand_space(folder)
        planner = evaluate or Armed(claim.study(), folder, Path.cwd(), claim.split)
        planned = plan(claim, planner.shape, lambda c: planner.price(c).macs)
        protocol = protocol_of(claim, planned, planner.fingerprint())
        keep(folder, protocol)  # before the first trial, whatever becomes of it
        run = folder / protocol.hash
        run.mkdir(exist_ok=True)
        wanted = listing(planned, claim.seeds)
        study = continued(run, claim.study(len(wanted)), 0)
        evaluator, splits = planner, {}
        if isinstance(planner, Armed):
            evaluator = planner.into(study, run.resolve(), planned)
            splits = {
                "train": planner.task.size("train"),
                claim.split: planner.task.size(claim.split),
            }
        with (
            locked(run / "lock", in_use),  # where `nasx doctor` and `nasx watch` look for it
            opened(run, study, planner.fingerprint(), splits, None) as (record, provenance),
        ):
            work = sum(claim.samples(p.condition) for p, _ in wanted)
            showing = Showing(record, provenance["resumes"], work)
            showing.begin(display)
            for why in foreseen(claim, planned, planner):
                showing.note(why)
            cls = type(planned[0].candidate)
            proposed = [Listed(claim, cls, wanted, study, evaluator, record.trials)]
            with contextlib.suppress(NoTrialCompleted):  # the verdict names every failure
                drive(record, evaluator, showing, provenance, proposed=proposed, address=address)
        found = find(claim, planned, planner.shape, folder, protocol.hash, command)
        found = replace(found, front=seen)
        write_json(folder / RESULT, found.to_json())
        showing.end("done")
    return found
