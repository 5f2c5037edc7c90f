"""`measure.via`: one self-contained probe in an environment that has neither torch nor nasx."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn

from nasx.cost.latency import time_each, time_networks
from nasx.errors import NasxError
from nasx.study import Measure

NEEDED = ("numpy", "numpy.libs", "onnxruntime", "flatbuffers", "google")  # google = protobuf
VIA = Measure(via="python3 -")
NETWORKS = {"net": (nn.Conv2d(3, 8, 3), (3, 16, 16))}


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    """Return a Python of its own whose packages are those that the probe needs, nothing else."""
    home = tmp_path_factory.mktemp("second")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    (packages,) = home.glob("lib/python*/site-packages")
    ours = Path(importlib.util.find_spec("numpy").origin).parents[1]
    for name in NEEDED:
        if (ours / name).exists():
            (packages / name).symlink_to(ours / name)
    return home


def test_the_probe_runs_in_a_second_environment(second, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(second / "bin"), prepend=":")
    assert Path(shutil.which("python3")) == second / "bin" / "python3"
    missing = subprocess.run(["python3", "-c", "import torch"], capture_output=True, text=True)
    assert "No module named 'torch'" in missing.stderr
    timed = time_networks(NETWORKS, VIA, passes=4, raw=tmp_path / "raw.jsonl")
    assert timed["net"].median_ms > 0
    assert timed["net"].samples == 16
    head = json.loads((tmp_path / "raw.jsonl").read_text().splitlines()[0])
    assert head["measurement"]["via"] == "python3 -"
    assert Path(head["machine"]["interpreter"]).parent == second / "bin"
    assert head["machine"]["onnxruntime"]
    assert "torch" not in head["machine"]


@pytest.mark.parametrize("name", ["onnxruntime", "numpy"])
def test_a_package_that_is_missing_there_is_named_in_one_line(name, second, monkeypatch):
    (packages,) = second.glob("lib/python*/site-packages")
    hidden = packages / name
    target = hidden.readlink()
    monkeypatch.setenv("PATH", str(second / "bin"), prepend=":")
    hidden.unlink()
    try:
        with pytest.raises(NasxError) as refusal:
            time_networks(NETWORKS, VIA)
    finally:
        hidden.symlink_to(target)
    said = f"python3 has no package {name}: pip install {name} there"
    assert str(refusal.value).startswith("measure.via 'python3 -': ")
    assert str(refusal.value).endswith(said)


def test_a_package_that_is_missing_here_is_named_in_one_line(second, monkeypatch):
    """Without `via` the probe runs in nasx's own Python; here that is one without onnxruntime."""
    (packages,) = second.glob("lib/python*/site-packages")
    (packages / "onnxruntime").rename(packages / "hidden")
    monkeypatch.setattr(sys, "executable", str(second / "bin" / "python3"))
    try:
        with pytest.raises(
            NasxError, match=r"the latency probe: .* has no package onnxruntime: pip"
        ):
            time_networks(NETWORKS, Measure())
    finally:
        (packages / "hidden").rename(packages / "onnxruntime")


def test_a_banner_before_the_answer_does_no_harm():
    via = f"echo a banner; {sys.executable} -I -"
    assert time_networks(NETWORKS, Measure(via=via), passes=2, runs=2)["net"].samples == 4


def test_an_answer_that_is_not_the_probes_is_refused():
    for answer in ("7", "{}", "[1]", '{"rows": []}'):
        with pytest.raises(NasxError, match=r"no samples came back \(exit 0: nothing on stderr\)"):
            time_networks(NETWORKS, Measure(via=f"cat > /dev/null; echo '{answer}'"))


def test_a_network_that_kills_the_probe_costs_the_others_nothing(tmp_path):
    runner = tmp_path / "python"
    runner.write_text(
        f"#!{sys.executable}\nimport os, sys\ntext = sys.stdin.read()\n"
        "if '\"deadly\"' in text: os.abort()\nexec(text)\n"
    )
    runner.chmod(0o755)
    networks = {"deadly": NETWORKS["net"], **NETWORKS}
    timed = time_each(networks, Measure(via=str(runner)), passes=2, runs=2)
    assert set(timed.latencies) == {"net"}
    assert "no samples came back (exit" in timed.faults["deadly"]
    with pytest.raises(NasxError, match="no samples came back"):
        time_each({"deadly": NETWORKS["net"]}, Measure(via=str(runner)))
