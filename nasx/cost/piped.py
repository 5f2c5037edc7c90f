"""Time ONNX models in another Python: a fresh process here, or whatever `measure.via` reaches."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nasx.cost import probe
from nasx.cost.lease import Lease, exclusive
from nasx.cost.onnxfile import calibrator_onnx, timing_onnx
from nasx.cost.samples import Fed, Networks, Plan, Samples, visit_of
from nasx.errors import NasxError
from nasx.study import Measure

SECONDS = 60  # the probe may take for each network, and twice for its start
ANSWER = {"rows", "machine", "block", "faults"}


class ProbeDied(NasxError):
    """Say that the probe ended without an answer."""


def sample_onnxruntime(networks: Networks, measure: Measure, plan: Plan) -> Samples:
    """Time networks in ONNX Runtime, in a fresh process here or behind `measure.via`."""
    models, faults, inputs = {}, {}, {}
    for name, asked in networks.items():
        model, shape, calls, real = visit_of(asked, measure.batch)
        try:
            models[name] = timing_onnx(model, shape, measure.batch, conditions=real)
        except NasxError as error:
            faults[name] = str(error)
        if isinstance(asked, Fed):
            inputs[name] = torch.stack([x for (x,) in calls])
    if not models:
        return Samples([], probe.machine(), {}, faults)
    found = sample_models(models, measure, plan, inputs)
    found.faults.update(faults)
    return found


def sample_models(
    models: Mapping[str, bytes],
    measure: Measure,
    plan: Plan,
    inputs: Mapping[str, Tensor] | None = None,
) -> Samples:
    """Time ONNX models (their bytes by name) in the probe, on random inputs or on those given.

    `inputs` (calls, batch, ...) by name. Where the probe dies it is asked for each model alone, so
    that one that kills it costs no other.
    """
    given = inputs or {}
    try:
        return _sampled(models, measure, plan, given)
    except ProbeDied as error:
        fatal = _fatal(models, measure, given) if len(models) > 1 else models
        if len(fatal) in (0, len(models)):
            raise
        sound = {n: m for n, m in models.items() if n not in fatal}
        found = _sampled(sound, measure, plan, given)
        found.faults.update(dict.fromkeys(fatal, str(error)))
        return found


def _fatal(
    models: Mapping[str, bytes], measure: Measure, inputs: Mapping[str, Tensor]
) -> list[str]:
    found = []
    for name, model in models.items():
        try:
            _sampled({name: model}, measure, Plan(passes=1, runs=1), inputs)
        except ProbeDied:
            found.append(name)
    return found


def _sampled(
    models: Mapping[str, bytes], measure: Measure, plan: Plan, inputs: Mapping[str, Tensor]
) -> Samples:
    fed = {name: inputs[name] for name in models if name in inputs}
    text = script_of(models, measure, plan, fed)
    where = f"measure.via {measure.via!r}" if measure.via else "the latency probe"
    alone = measure.threads > 1 and measure.via is None  # elsewhere nothing of ours trains
    with exclusive(Lease("cpu") if alone else None) as held:
        answer = _ask(text, measure.via, where, SECONDS * (2 + len(models) + 3 * len(fed)))
    return Samples(
        answer["rows"],
        answer["machine"],
        answer["block"],
        {name: f"{where}: {fault}" for name, fault in answer["faults"].items()},
        held(),
    )


def script_of(
    models: Mapping[str, bytes],
    measure: Measure,
    plan: Plan,
    inputs: Mapping[str, Tensor] | None = None,
) -> str:
    """Return the text a Python reads on stdin to time `models`: the probe and its payload."""
    payload = {
        "header": {"threads": measure.threads, "batch": measure.batch, **asdict(plan)},
        "models": {name: base64.b64encode(data).decode() for name, data in models.items()},
        "calibrator": base64.b64encode(calibrator_onnx()).decode(),
        "inputs": {name: _packed(x) for name, x in (inputs or {}).items()},
    }
    source = Path(probe.__file__).read_text(encoding="utf-8")
    return f"{source}\n\nmain({json.dumps(payload)!r})\n"


def _packed(x: Tensor) -> dict[str, Any]:
    values = x.float().contiguous()
    return {
        "shape": list(values.shape),
        "data": base64.b64encode(values.numpy().tobytes()).decode(),
    }


def _ask(script: str, via: str | None, where: str, seconds: float) -> dict[str, Any]:
    """Pipe `script` to a Python and return the JSON of its last line; its failures are refused."""
    command = via or shlex.join([sys.executable, "-P", "-"])
    with subprocess.Popen(
        command,
        shell=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # So that what the command started ends with it; and Linux, which shares the CPU out by
        # session, gives the probe as much of it as all trainings of a search together.
        start_new_session=True,
    ) as process:
        try:
            out, complaints = process.communicate(script, timeout=seconds)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise NasxError(
                    f"{where}: no answer within {seconds:.0f} s; run the command by hand to see why"
                ) from error
            raise
    try:
        answer = json.loads(out.strip().splitlines()[-1])
    except (IndexError, ValueError):
        answer = None
    if isinstance(answer, dict) and "error" in answer:
        raise NasxError(f"{where}: {answer['error']}")
    if not (isinstance(answer, dict) and answer.keys() >= ANSWER):
        said = (complaints.strip().splitlines() or ["nothing on stderr"])[-1]
        raise ProbeDied(
            f"{where}: no samples came back (exit {process.returncode}: {said}); "
            "it must run a Python with numpy and onnxruntime that reads a script on stdin"
        )
    return answer
