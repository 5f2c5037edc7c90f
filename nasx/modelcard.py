"""The card of an exported network, for people (card.md) and for programs (architecture.json)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from nasx.detectcard import detecting, finding
from nasx.headstext import files_of, headed, tiles
from nasx.paritytext import checked, other_size

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class About:
    """What is known of an exported network beside its weights; plain values.

    `recipe` is the outline of its training, `decisions` the structural choices taken there.
    `preprocessing` says how a sample becomes an input: "resize" in words, "mean" and "deviation"
    per channel of pixels in [0, 255]; for images to restore "images" in words, and what is "spoilt"
    at which "scales", head by head; empty where the task does not say. `sizes` counts the
    samples behind the scores `valid` and `test`. `costs` are values of the axes table, and
    "macs_max", which is more than "macs" where the work depends on the input.
    `latency` is the quiet pass's (see `nasx.trial.Final`), or None. `kernels` names what layers
    with operators of their own run on, by layer. `heads` has MACs, parameters and files of each
    head of a network of several, in the order of the task.
    """

    study: str
    trial: str
    space: str
    candidate: Mapping[str, Any]
    key: str
    question: str = ""
    seed: int = 0
    samples: int = 0
    recipe: Mapping[str, Any] = field(default_factory=dict)
    kernels: Mapping[str, str] = field(default_factory=dict)
    decisions: Mapping[str, Any] = field(default_factory=dict)
    task: str = ""
    classes: tuple[str, ...] = ()
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    valid: Mapping[str, float] = field(default_factory=dict)
    test: Mapping[str, float] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)
    latency: Mapping[str, Any] | None = None
    cautions: tuple[str, ...] = ()
    heads: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    machine: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)


def architecture(about: About, inputs: Tensor, constants: list[str]) -> dict[str, Any]:
    """Return architecture.json: everything needed to build the network again, and its numbers.

    `constants` are the tensors of the weights file that are not in the network's state_dict.
    """
    shape = [int(side) for side in inputs.shape[1:]]
    return {**asdict(about), "input": shape, "constants": constants}


def card(about: About, parity: Mapping[str, Any], inputs: Tensor) -> str:
    """Return card.md: what it is, how good, what it costs, how to feed it, how to load it."""
    shape = tuple(int(side) for side in inputs.shape[1:])
    onnx, program, source = files_of(about)
    module = source.removesuffix(".py")
    which = f", here for the head `{next(iter(about.heads))}`" if about.heads else ""
    parts = [
        f"# {about.trial} of study {about.study}",
        f"A network of the search space `{about.space}` for the task `{about.task}`, found by nasx."
        + (f" The study asked: *{_line(about.question)}*" if about.question else ""),
        "\n".join(f"- `{name}`: {_value(v)}" for name, v in about.candidate.items()),
        f"Candidate key `{about.key}`, seed {about.seed}, trained on {about.samples} samples.",
        "## Scores",
        _scores(about),
        "## Costs",
        _costs(about, shape),
        "\n\n".join(_line(sentence) for sentence in about.cautions),
        "## Input and output",
        _input(about, shape, parity),
        headed(about),
        "## Use it",
        f"Run in this folder{which}. With ONNX Runtime:",
        _code(_onnx_lines(about, shape, onnx)),
        f"With torch and safetensors, from the plain source in `{source}`:",
        _code(_torch_lines(shape, f"from {module} import Model\n", "Model().eval()")),
        "With torch alone, from the exported program:",
        _code(_torch_lines(shape, "", f'torch.export.load("{program}").module()')),
        tiles(shape, parity, module),
        "## Checked",
        checked(parity),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def standard_error(percent: float, n: int) -> float:
    """Return the binomial standard error of an accuracy over n samples, both in percent."""
    share = min(max(percent / 100, 0.0), 1.0)
    return 100 * math.sqrt(share * (1 - share) / n)


def _scores(about: About) -> str:
    rows = ["| split | samples | score |", "|---|---|---|"]
    for split, scores in (("valid", about.valid), ("test", about.test)):
        n = about.sizes.get(split, 0)
        for name, value in scores.items():
            text = f"{name} {value:.4f}" if name.startswith("ssim") else f"{name} {value:.2f}"
            if name == "top1" and n:
                text += f" % ± {standard_error(value, n):.2f} (binomial standard error)"
            rows.append(f"| {split} | {n or ''} | {text} |")
    said = "The search chose by the valid split, so its score is optimistic"
    if about.test:
        return "\n".join(rows) + f"\n\n{said}; the test split was scored once."
    return "\n".join(rows) + f"\n\n{said}; this network was not scored on the test split."


def _costs(about: About, shape: tuple[int, ...]) -> str:
    work = {"adds": "additions", "shifts": "shifts", "bit_ops": "bit operations",
            "lookups": "look-ups"}  # fmt: skip
    units = {"macs": "MACs", **work, "params": "parameters", "bytes": "bytes of weights"}
    known = [
        f"{about.costs[k]:,.0f} {unit}"
        for k, unit in units.items()
        if k in about.costs and (about.costs[k] or k not in work)
    ]
    if "peak_bytes" in about.costs:
        known.append(f"{about.costs['peak_bytes']:,.0f} bytes of activations at most")
    if "energy_uj" in about.costs:
        known.append(f"{about.costs['energy_uj']:.4g} uJ of modelled arithmetic (45 nm)")
    head = f", head `{next(iter(about.heads))}`" if about.heads else ""
    text = f"Per sample of {_sides(shape)}{head}: {', '.join(known)}.\n\n" if known else ""
    most = about.costs.get("macs_max", 0)
    if known and most > about.costs.get("macs", most):
        text += (
            "The work depends on the input: operations and energy are means over the validation "
            f"samples, and the most that an input can take is {most:,.0f} MACs.\n\n"
        )
    text += _kernels(about)
    if not about.latency:
        return text + "Latency was not measured in a quiet pass."
    m = about.latency
    contended = " Other processes disturbed the measurement." if m.get("contended") else ""
    same = ", ".join(m.get("same_as", ()))
    alike = f" It cannot be told from that of {same}." if same else ""
    return text + (
        f"Latency {m['median_ms']:.3f} ms{_over(m)} (quartiles {m['q1_ms']:.3f} to "
        f"{m['q3_ms']:.3f}), batch {m['batch']}, {m['runtime']} on {m['device']} with "
        f"{m['threads']} thread(s), {about.machine or 'machine not noted'}.{alike}{contended}"
    )


def _over(latency: Mapping[str, Any]) -> str:
    many = latency.get("inputs", 1)
    return f", the mean over {many} validation samples" if many > 1 else ""


def _kernels(about: About) -> str:
    if not about.kernels:
        return ""
    rows = [f"- `{layer}`: {_line(kernel)}" for layer, kernel in about.kernels.items()]
    return (
        "Layers with kernels of their own, and what they ran on:\n\n"
        + "\n".join(rows)
        + "\n\nThe files here compute the same in ordinary operators of torch and ONNX: they have "
        "the results of these kernels, not the speed.\n\n"
    )


def _input(about: About, shape: tuple[int, ...], parity: Mapping[str, Any]) -> str:
    lines = [f"Input: float32 (N, {_sides(shape, ', ')}), any batch size N."]
    if "one_size" in parity:
        lines[0] += f" No other size: {_line(parity['one_size'])}."
    if other_size(parity):
        counted = f"{_sides(shape[1:])} is what costs were counted at"
        lines = [f"Input: float32 (N, {shape[0]}, height, width), any of the three; {counted}."]
    known = about.preprocessing
    if "objects" in known:
        lines += detecting(known, len(about.classes))
    elif "images" in known:
        lines += _restoring(known)
    elif known:
        lines.append(f"1. {known['resize']}")
        lines.append("2. Per channel: (pixel - mean) / deviation, pixels in 0 to 255, with")
        lines.append(f"   - mean {_numbers(known['mean'])}")
        lines.append(f"   - deviation {_numbers(known['deviation'])}")
        lines.append("3. Channels first.")
    else:
        lines.append(f"Samples are prepared as the task `{about.task}` does.")
    if about.classes:
        names = ", ".join(_line(name) for name in about.classes[:50])
        more = ", ... (all in architecture.json)" if len(about.classes) > 50 else ""
        what = (
            "Classes"
            if "objects" in known
            else f"Output: {len(about.classes)} class scores (logits)"
        )
        lines.append(f"\n{what}: {names}{more}.")
    return "\n".join(lines)


def _restoring(known: Mapping[str, Any]) -> list[str]:
    """Return the lines on images to restore: what goes in and what comes out."""
    lines = [f"Images are {known['images']} Channels first.", "What it restores, by head:"]
    lines += [f"- {_line(words)}" for words in known["spoilt"]]
    larger = [f"{scale} times" for scale in known["scales"] if scale > 1]
    size = f"{' or '.join(larger)} as high and wide" if larger else "of the same size"
    if larger and len(larger) < len(known["scales"]):
        size += ", or of the same size"
    lines.append(f"\nOutput: images in [0, 1], {size}; cut off what lies beyond, times 255, round.")
    return lines


def _onnx_lines(about: About, shape: tuple[int, ...], file: str) -> list[str]:
    lines = ["import numpy as np", "import onnxruntime", ""]
    known = about.preprocessing
    pixels = (1, *shape[1:], shape[0])
    if known:
        lines.append(
            f"pixels = np.zeros({pixels}, np.uint8)  # your images: (N, height, width, channels)"
        )
    if "images" in known or "objects" in known:
        lines.append("inputs = pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255")
    elif known:
        lines += [
            f"mean = np.array([{_numbers(known['mean'])}], np.float32)",
            f"deviation = np.array([{_numbers(known['deviation'])}], np.float32)",
            "inputs = ((pixels - mean) / deviation).transpose(0, 3, 1, 2)",
        ]
    else:
        lines.append(f"inputs = np.zeros({(1, *shape)}, np.float32)  # your samples")
    lines += [
        f'session = onnxruntime.InferenceSession("{file}")',
        "name = session.get_inputs()[0].name",
        "output = session.run(None, {name: np.ascontiguousarray(inputs)})[0]",
    ]
    if "images" in known:
        lines.append("images = (output.clip(0, 1) * 255).round().astype(np.uint8)")
        lines.append("print(images.transpose(0, 2, 3, 1).shape)")
    elif "objects" in known:
        lines += finding(known, about.classes, shape)
    else:
        lines.append("print(output.argmax(1))" if about.classes else "print(output.shape)")
    return lines


def _torch_lines(shape: tuple[int, ...], imports: str, network: str) -> list[str]:
    return [
        "import torch",
        *imports.splitlines(),
        "",
        f"model = {network}",
        "with torch.inference_mode():",
        f"    output = model(torch.zeros{(1, *shape)})",
        "print(output)",
    ]


def _code(lines: list[str]) -> str:
    return "\n".join(["```python", *lines, "```"])


def _line(text: str) -> str:
    """Return text on one line that Markdown shows as it is."""
    return " ".join(text.split()).replace("<", "&lt;").replace("|", "&#124;")


def _value(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else _line(str(value))


def _sides(shape: tuple[int, ...], between: str = " x ") -> str:
    return between.join(str(side) for side in shape)


def _numbers(values: Any) -> str:
    return ", ".join(f"{value:.9g}" for value in values)
