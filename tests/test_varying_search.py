"""A search of networks whose work depends on the input, from its gate to its exported card."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import nasx
from dashboards import cost_by_layer
from gatedspace import Inked
from nasx.cost import api
from nasx.cost.mean import mean_cost
from nasx.export import about_trial
from nasx.fronttext import front_text
from nasx.modelcard import _costs
from nasx.readback import deployed_network
from nasx.registry import task
from nasx.results.compare import compare
from nasx.trial import Snapshot

STUDY = """\
desc: What do gates save?
space: {space}
task: digits
objectives: {{top1: maximize, macs: minimize, latency_ms: minimize}}
constraints: {{macs: "<= {limit}"}}
fidelity: {{full: 256, rungs: 2}}
search: {{trials: 2, sampler: random}}
measure: {{runtime: eager}}
resources: {{executor: inline}}
final: {{neighbours: 0}}
"""
DIGITS = task("digits")
MOST = {middle: nasx.cost(Inked(middle=middle), task=DIGITS).macs_max for middle in (8, 32)}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    folder = tmp_path_factory.mktemp("inked")
    space = f"{Path(__file__).with_name('gatedspace.py')}:Inked"
    (folder / "inked.yaml").write_text(STUDY.format(space=space, limit=2 * MOST[32]))
    return nasx.search(nasx.load(folder / "inked.yaml"), folder / "run").snapshot()


def test_the_record_carries_the_mean_over_valid_and_the_most(run: Snapshot) -> None:
    assert len(run.trials) == 2
    for trial in run.trials:
        candidate = Inked(**trial.candidate)
        most = nasx.cost(candidate, task=DIGITS)
        assert trial.card["macs_max"] == most.macs_max == MOST[candidate.middle]
        assert 0 < trial.card["macs"] < trial.card["macs_max"]
        folder = run.path / "trials" / trial.name
        net = deployed_network(candidate, DIGITS, folder / "checkpoint")
        mean = mean_cost(net, DIGITS, most)
        assert trial.values["macs"] == trial.card["macs"] == mean.macs
        assert trial.values["flops"] == 2 * mean.macs
        assert trial.values["energy_uj"] == pytest.approx(mean.energy_uj)
        assert trial.values["params"] == most.params
        assert trial.values["latency_ms"] > 0
        kept = json.loads((folder / "cost.json").read_text())
        assert (kept["macs"], kept["macs_max"]) == (mean.macs, most.macs_max)
        assert sum(layer["macs"] for layer in kept["by_layer"]) == pytest.approx(mean.macs, abs=9)


def test_the_front_the_comparison_and_the_figures_show_the_mean(run: Snapshot) -> None:
    entries = nasx.front(run)
    assert entries
    for entry in entries:
        assert entry["objectives"]["macs"] == entry["card"]["macs"] < entry["card"]["macs_max"]
        assert entry["latency"] == "measured"
    name, card = entries[0]["trial"], entries[0]["card"]
    said = f"{card['macs']:,} MACs are the mean over valid, {card['macs_max']:,} the most"
    assert f"{name}: its work depends on the input: {said}" in front_text(entries)
    assert {f.latency["inputs"] for f in run.finals.values() if f.latency} == {16}
    info = cost_by_layer.collect(run, run.study)
    sums = {name: sum(row) for name, row in zip(info.rows, info.table, strict=True)}
    for entry in entries:
        assert sums[entry["trial"]] == pytest.approx(entry["card"]["macs"], abs=9)
    assert compare(run, run)  # reads both records to the end
    page = (run.path / "report.html").read_text()
    assert "the work depends on the input" in page


def test_measuring_a_run_again_takes_real_samples(run: Snapshot) -> None:
    rows = api.measure(run.path)
    assert {row["inputs"] for row in rows} == {16}


def test_the_exported_card_says_both(run: Snapshot) -> None:
    trial = run.trials[0]
    about = about_trial(run, trial, Inked(**trial.candidate), DIGITS)
    text = _costs(about, (1, 8, 8))
    assert f"{trial.card['macs']:,.0f} MACs" in text
    assert f"the most that an input can take is {trial.card['macs_max']:,} MACs" in text
    final = run.finals.get(0)
    assert final is None or "the mean over 16 validation samples" in text


def test_a_limit_is_held_against_the_most(tmp_path: Path) -> None:
    space = f"{Path(__file__).with_name('gatedspace.py')}:Inked"
    limit = (MOST[8] + MOST[32]) // 2  # the mean of the wide one would pass
    text = STUDY.format(space=space, limit=limit).replace("latency_ms: mini", "params: mini")
    (tmp_path / "inked.yaml").write_text(text.replace("full: 256, rungs: 2", "full: 64, rungs: 1"))
    found = nasx.search(nasx.load(tmp_path / "inked.yaml"), tmp_path / "run").snapshot()
    assert {t.candidate["middle"] for t in found.trials} == {8}
    assert {r.candidate["middle"] for r in found.rejections} == {32}
    assert found.rejections[0].value == MOST[32]
