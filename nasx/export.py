"""Export: one chosen network as files that run without nasx, each checked against what was scored.

The check runs in a fresh process that cannot import nasx, on real validation samples. A file that
computes something else fails the whole export: nothing is left at the destination.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasx.errors import ParityError
from nasx.files import read_json

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nasx.run import Run
    from nasx.trial import Snapshot

TOLERANCE = 1e-4  # of the largest output
SAMPLES = 64


def export(run: Run | Snapshot | Path | str, which: str, out: Path | None = None) -> Path:
    """Write the bundle of `which` (knee, best, smallest or tNNNN); return its folder.

    Raises NasxError for a trial that is not there or not fully trained, ParityError for a miss.
    """
    from nasx.readback import deployed_network
    from nasx.registry import space, task
    from nasx.results.front import front, select
    from nasx.run import snapshot_of

    snapshot = snapshot_of(run)
    entry = select(front(snapshot), which)
    number = int(str(entry["trial"])[1:])
    trial = snapshot.trial(number)
    folder = snapshot.path / "trials" / trial.name
    own = task(snapshot.study.task)
    candidate = space(trial.space).from_json(trial.candidate)
    network = deployed_network(candidate, own, folder / "checkpoint")
    shape = candidate.input_shape(own.shape)
    batch = next(iter(own.batches("valid", shape, SAMPLES)))
    about = {
        "study": snapshot.name,
        "trial": trial.name,
        "space": trial.space,
        "candidate": trial.candidate,
        "canonical": json.loads(json.dumps(candidate.canonical(own.shape), default=str)),
        "key": trial.key,
        "input": list(shape),
        "classes": own.shape.outputs,
        "seed": trial.seed,
        "samples": trial.samples,
        "decisions": (read_json(folder / "checkpoint" / "state.json") or {}).get("decisions", {}),
    }
    target = out or snapshot.path / "exports" / trial.name
    return bundle(network, about, card(snapshot, entry, about), target, batch.inputs)


def bundle(
    network: nn.Module, about: dict[str, Any], words: str, target: Path, inputs: Tensor
) -> Path:
    """Write and check the files of one deployed network; `inputs` are real samples (N, C, H, W)."""
    import numpy as np
    import torch
    from safetensors.torch import save_file

    from nasx.cost.runtimes import write_onnx
    from nasx.modelfile import model_source, stored_tensors

    target.parent.mkdir(parents=True, exist_ok=True)
    inputs = inputs.contiguous()
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as made:
        folder = Path(made)
        with quiet():
            with torch.inference_mode():
                outputs = network.eval()(inputs)
            axes = ({0: torch.export.Dim("batch", min=1)},)
            program = torch.export.export(network, (inputs[:2],), dynamic_shapes=axes, strict=False)
            torch.export.save(program, str(folder / "model.pt2"))
            write_onnx(network, tuple(inputs.shape[1:]), folder / "model.onnx")
            save_file(stored_tensors(program), str(folder / "weights.safetensors"))
            title = f"{about['trial']} of study {about['study']}"
            (folder / "model.py").write_text(model_source(program, title))
        (folder / "architecture.json").write_text(json.dumps(about, indent=1) + "\n")
        np.savez(folder / "expected.npz", inputs=inputs.numpy(), outputs=outputs.numpy())
        parity = check(folder)
        (folder / "expected.npz").unlink()
        (folder / "parity.json").write_text(json.dumps(parity, indent=1) + "\n")
        (folder / "card.md").write_text(words)
        names = sorted(f.name for f in folder.iterdir() if f.is_file())
        sums = [f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}" for n in names]
        (folder / "SHA256SUMS").write_text("\n".join(sums) + "\n")
        shutil.rmtree(folder / "__pycache__", ignore_errors=True)
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(folder, target)
    return target


def check(folder: Path) -> dict[str, Any]:
    """Run parity_check.py on a bundle on its own; ParityError names the file that misses."""
    script = Path(__file__).with_name("parity_check.py").read_text()
    done = subprocess.run(
        [sys.executable, "-I", "-c", script, str(folder)],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ParityError(f"the exported files cannot be run without nasx: {last}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    found.pop("nasx_importable")
    for name, difference in found.items():
        if not difference["max_relative"] <= TOLERANCE:
            raise ParityError(
                f"{name} does not compute what was scored: it differs by "
                f"{difference['max_abs']:.3g} ({difference['max_relative']:.2g} of the largest "
                f"output, {TOLERANCE:g} allowed); nothing was exported"
            )
    return {"tolerance": TOLERANCE, "samples": SAMPLES, "files": found}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporters' chatter from the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def card(snapshot: Snapshot, entry: dict[str, Any], about: dict[str, Any]) -> str:
    """Return the card of an exported network, in Markdown."""
    shape = ", ".join(map(str, about["input"]))
    scores = [f"| {name} | {value:.6g} | |" for name, value in entry["objectives"].items()]
    test = [f"| {name} (test split) | | {value:.6g} |" for name, value in entry["test"].items()]
    machine = snapshot.provenance.get("machine", {}).get("cpu", "unknown")
    measure = snapshot.study.measure
    return f"""# {about["trial"]} of study {snapshot.name}

{snapshot.study.desc}

Space `{about["space"]}`, key `{about["key"]}`,
{about["samples"]} samples of training, seed {about["seed"]}.
Latency: {measure.runtime} on {measure.device}, batch {measure.batch},
{measure.threads} thread(s), {machine}.

| quantity | search (valid) | test |
| --- | --- | --- |
{chr(10).join(scores + test)}

Input: float32 (N, {shape}), resized and normalised as nasx's task `{snapshot.study.task}` does.

```python
import numpy, onnxruntime
session = onnxruntime.InferenceSession("model.onnx")
name = session.get_inputs()[0].name
print(session.run(None, {{name: numpy.zeros((1, {shape}), numpy.float32)}})[0])
```

`model.py` is the same network in plain PyTorch, `model.pt2` its exported program.
`parity.json` says how far each file is from the network that was scored.
"""
