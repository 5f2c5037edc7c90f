"""Other counters beside ours: every difference has a place, an amount and a reason."""

import importlib.util
import sys

import pytest
import torch
from torch import nn

from hand_counted import ANCHORS, Call, mob16x2
from met_in_practice import CASES, encoder
from nasx.cost.check import cross_check
from nasx.cost.compared import UNEXPLAINED
from nasx.cost.ops import Ops, count

FVCORE = importlib.util.find_spec("fvcore") is not None
SMALL = {n: c for n, c in {**ANCHORS, **CASES}.items() if " at 224" not in n}
PROJECTED = "ignore:LSTM with projections is not supported"


def tallies(model, *inputs):
    return {tally.counter: tally for tally in cross_check(model, inputs)}


def reasons(tally):
    return {d.where: (d.macs, d.why) for d in tally.differences}


@pytest.mark.filterwarnings(PROJECTED)
@pytest.mark.parametrize("name", SMALL)
def test_differences_add_up_and_are_explained(name):
    case = SMALL[name]
    rows = cross_check(case.make(), case.inputs())
    assert [row.counter for row in rows] == ["nasx", "thop", "FlopCounterMode", "fvcore"]
    assert (rows[0].macs, rows[0].ratio, rows[0].differences) == (case.macs, 1.0, ())
    for row in rows[1:]:
        if row.macs is None:
            assert row.error
            continue
        assert sum(d.macs for d in row.differences) == row.macs - case.macs
        assert UNEXPLAINED not in [d.why for d in row.differences]
        assert row.ratio == row.macs / case.macs


def test_normalisation_and_pooling_counted_as_macs():
    found = tallies(mob16x2(), torch.ones(1, 3, 32, 32))
    macs, why = reasons(found["thop"])["BatchNorm2d x19"]
    assert macs == 4 * sum(
        layer.ops.elementwise
        for layer in count(mob16x2(), torch.ones(1, 3, 32, 32)).by_layer.values()
        if layer.kind == "BatchNorm2d"
    )
    assert why == "thop counts its elements as MACs (4 per element); nasx shows them as elementwise"
    assert found["FlopCounterMode"].differences == ()
    if FVCORE:
        assert reasons(found["fvcore"])["batch_norm x19"][0] == macs // 2


@pytest.mark.parametrize(
    ("name", "counter", "where", "says"),
    [
        ("F.conv2d", "thop", "Call", "sees modules only: aten.convolution"),
        ("subclass of Conv2d", "thop", "Subclassed", "this subclass of Conv2d is not seen"),
        ("transposed", "thop", "ConvTranspose2d", "by its output elements"),
        ("GRU", "thop", "GRU", "counts gates"),
        ("LSTM, projected", "thop", "LSTM", "does not know proj_size"),
        ("MultiheadAttention", "FlopCounterMode", "aten.addmm", "fused kernel without a formula"),
        ("bilinear", "FlopCounterMode", "aten._trilinear", "no formula for this operator"),
    ],
)
@pytest.mark.filterwarnings(PROJECTED)
def test_the_reason_is_the_right_one(name, counter, where, says):
    case = SMALL[name]
    (macs, why) = reasons(tallies(case.make(), *case.inputs())[counter])[where]
    assert says in why
    assert macs != 0


@pytest.mark.skipif(not FVCORE, reason="fvcore is not installed")
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("GRU", "no price for aten::gru"),
        ("padding same", "no price for aten::_convolution_mode"),
        ("SDPA, masked", "no price for aten::scaled_dot_product_attention"),
    ],
)
def test_what_fvcore_lacks_is_named(name, says):
    case = SMALL[name]
    ((_, why),) = reasons(tallies(case.make(), *case.inputs())["fvcore"]).values()
    assert says in why


def test_a_layer_in_two_places():
    layer = nn.Conv2d(4, 4, 1)
    net = nn.Sequential(nn.Sequential(layer), nn.ReLU(), nn.Sequential(layer))
    thop = tallies(net, torch.ones(1, 4, 4, 4))["thop"]
    assert reasons(thop) == {
        "Conv2d": (3 * 512, "stands in 2 places: thop hooks it and adds it up at each of them")
    }


class Folded(nn.Module):
    """Prices itself as 7 MACs of int8, and computes something else."""

    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 3, 1), nn.Linear(4, 4)

    def forward(self, x):
        return self.linear(self.conv(x)) @ self.linear.weight

    def count_ops(self, x, out):
        return {"int8": Ops(macs=7)}


def test_a_layer_that_prices_itself_is_one_difference():
    found = tallies(nn.Sequential(Folded(), nn.Linear(4, 2)), torch.ones(1, 3, 4, 4))
    linear, inside, product = 3 * 4 * 4 * 2, 9 * 16 + 12 * 16, 12 * 16
    assert found["nasx"].macs == 7 + linear
    seen = {"thop": inside, "FlopCounterMode": inside + product, "fvcore": inside + product}
    for counter, macs in seen.items():
        if counter != "fvcore" or FVCORE:
            ((where, (extra, why)),) = reasons(found[counter]).items()
            assert (where, extra) == ("Folded", macs - 7)
            assert why.startswith("prices itself (count_ops)")


def test_a_counter_that_fails_is_a_row():
    def picky(m, x):
        if hasattr(m, "total_ops"):
            raise RuntimeError("not with buffers\nof others")
        return m.layer(x)

    found = tallies(Call(picky, layer=nn.Linear(4, 2)), torch.ones(1, 4))
    thop = found["thop"]
    assert (thop.macs, thop.ratio) == (None, None)
    assert thop.error == "RuntimeError: not with buffers"
    assert found["FlopCounterMode"].ratio == 1.0


def test_without_fvcore_the_row_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "fvcore.nn", None)
    row = tallies(nn.Linear(4, 2), torch.ones(1, 4))["fvcore"]
    assert row.error == "fvcore is not installed: pip install fvcore"


def test_checking_changes_nothing_and_says_nothing(capfd):
    model = nn.Sequential(mob16x2(), nn.Dropout(), encoder_head()).train()
    model[0][0][1].eval()
    before = [
        {k: v.clone() for k, v in model.state_dict().items()},
        [m.training for m in model.modules()],
        [sorted(m.__dict__) for m in model.modules()],
        [len(m._forward_hooks) for m in model.modules()],
        torch.get_rng_state(),
    ]
    cross_check(model, (torch.ones(1, 3, 32, 32),))
    assert capfd.readouterr() == ("", "")
    state, *rest = before
    now = model.state_dict()
    assert state.keys() == now.keys()
    assert all(torch.equal(now[k], v) for k, v in state.items())
    assert rest[:3] == [
        [m.training for m in model.modules()],
        [sorted(m.__dict__) for m in model.modules()],
        [len(m._forward_hooks) for m in model.modules()],
    ]
    assert torch.equal(rest[3], torch.get_rng_state())


def encoder_head():
    return Call(lambda m, x: m.layer(x.view(1, 1, 10)[..., :8]), layer=encoder())
