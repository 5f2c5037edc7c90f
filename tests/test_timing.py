"""The one device model of a run: which names mean which, who may time, who is refused."""

import pytest

from nasx.cost.device import demand_device, index_of, models_here, named
from nasx.cost.latency import time_networks
from nasx.errors import NasxError
from nasx.search.timing import Place, fitting, settle, timing_nodes
from nasx.study import Measure

EPYC, XEON = "AMD EPYC 7B13", "Intel(R) Xeon(R)  Platinum 8481C CPU"
H100, A100 = "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-40GB"
NODES = {"a": (EPYC,), "b": (XEON,), "c": (EPYC,), "dead": ()}
HERE = models_here(gpu=False)[0]


def on(device, **more):
    return Measure(runtime="eager", device=device, **more)


@pytest.mark.parametrize(
    ("device", "models", "index"),
    [
        ("cpu", [EPYC], 0),
        ("cuda", [A100, H100], 0),
        ("cuda:1", [A100, H100], 1),
        ("cuda:2", [A100, H100], None),
        ("cuda", [], None),
        ("h100", [A100, H100], 1),
        ("epyc 7b13", [EPYC], 0),
        ("xeon(r) platinum", [XEON], 0),
        ("EPYC 7763", [EPYC], None),
    ],
)
def test_what_a_device_means_on_a_machine(device, models, index):
    assert index_of(device, models) == index


def test_only_nodes_with_the_very_model_fit():
    assert fitting(on("EPYC"), EPYC, NODES) == ("a", "c")
    assert fitting(on("cpu"), EPYC, NODES) == ("a", "c")
    assert fitting(on("AMD"), "AMD EPYC 7763", NODES) == ()


def test_a_candidate_is_timed_where_it_trains_only_on_the_runs_model():
    place = Place(EPYC, ("a", "c"))
    assert timing_nodes(place, on("cpu"), EPYC, "0a") == ()
    assert timing_nodes(place, on("cpu"), XEON, "0a") == ("a", "c")
    assert timing_nodes(place, on("cpu"), XEON, "0b") == ("c", "a")  # spread, with a way out
    assert timing_nodes(place, on("EPYC"), None, "0a") == ("a", "c")
    via = on("cpu", via="ssh board python3 -")
    assert timing_nodes(place, via, XEON, "0a") == ()  # what is behind the command is timed
    with pytest.raises(NasxError, match="no node with AMD EPYC 7B13 is known, and this machine"):
        timing_nodes(Place(EPYC), on("cpu"), XEON, "0a")


def test_a_run_settles_on_the_model_that_its_driver_has():
    part = HERE.split()[0].lower()
    assert named(part, HERE)
    nodes = {"mine": (HERE,), **NODES}
    assert settle(on("cpu"), None, nodes) == Place(HERE, ("mine",))
    assert settle(on(part), HERE, nodes) == Place(HERE, ("mine",))
    assert settle(on("cpu")) == Place(HERE)


@pytest.mark.parametrize(
    ("device", "kept", "nodes", "said"),
    [
        ("EPYC 0", None, {}, r"'EPYC 0': this machine has CPU .*; name one that is there, or time"),
        ("EPYC 0", None, NODES, rf"the nodes of the cluster have {EPYC}, Intel.* 8481C CPU; name"),
        ("EPYC 7B13", None, NODES, rf"on {EPYC}, which this machine lacks: start the search on a"),
        ("cpu", EPYC, NODES, rf"on {EPYC}, which this machine lacks: start the search on a node"),
        ("cpu", EPYC, {}, rf"timed on {EPYC}, and this machine has .*: continue where {EPYC} is"),
    ],
)
def test_a_device_that_the_driver_lacks_is_refused_with_what_is_there(device, kept, nodes, said):
    with pytest.raises(NasxError, match=said) as refused:
        settle(on(device), kept, nodes)
    assert "\n" not in str(refused.value)


def test_nothing_is_timed_on_a_model_that_a_setting_does_not_name():
    from torch import nn

    with pytest.raises(NasxError, match=r"measure.device 'EPYC 0': this machine has CPU"):
        time_networks({"it": (nn.Conv2d(2, 2, 1), (2, 4, 4))}, on("EPYC 0"), passes=1, runs=1)
    behind = Measure(device="EPYC 0", via="ssh board python3 -")
    demand_device(behind)  # not known yet
    with pytest.raises(NasxError, match=r"behind measure.via is another model, AMD EPYC 7B13"):
        demand_device(behind, EPYC)
    demand_device(Measure(device="7b13", via="ssh board python3 -"), EPYC)
