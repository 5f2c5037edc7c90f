"""Modelled energy against the published table and ratios, worked by hand."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from nasx.cost.card import card_of
from nasx.cost.energy import BEYOND, DRAM, MEMORIES, TABLE, energy
from nasx.cost.ops import Ops, count
from nasx.search.trained import Trained
from nasx.study import Study
from tiny import Tiny, TinyDigits

# Networks of adder papers: convolutions kept, MACs that became adder taps, and the energy of the
# convolutional network over the adder network's, in fp32 and int8.
RATIOS = {
    "ResNet-20": (40_813_184 - 40_370_176, 40_370_176, 2.513, 3.719),
    "ResNet-32": (69_124_736 - 68_681_728, 68_681_728, 2.530, 3.765),
    "VDSR": (612_591_206_400 - 611_529_523_200, 611_529_523_200, 2.549, 3.815),
    "EDSR x2": (9_384_748_646_400 - 8_833_204_224_000, 8_833_204_224_000, 2.341, 3.286),
    "EDSR x3": (4_476_528_230_400 - 3_925_868_544_000, 3_925_868_544_000, 2.145, 2.843),
    "EDSR x4": (2_894_546_534_400 - 2_208_301_056_000, 2_208_301_056_000, 1.867, 2.293),
}


def joules(number, macs=0, adds=0):
    found = energy({number: Ops(macs=macs, adds=adds)}).uj
    assert found is not None
    return found * 1e-6


@pytest.mark.parametrize("name", RATIOS)
def test_adder_networks_save_what_the_table_says(name):
    kept, taps, fp32, int8 = RATIOS[name]
    for number, ratio in (("fp32", fp32), ("int8", int8)):
        multiplying = joules(number, macs=kept + taps)
        adding = joules(number, macs=kept, adds=2 * taps)
        assert round(multiplying / adding, 3) == ratio


def test_the_energy_of_a_network_in_joules():
    assert joules("fp32", macs=40_813_184) == pytest.approx(1.87741e-4, rel=1e-5)
    adder = joules("fp32", macs=443_008, adds=2 * 40_370_176)
    assert adder == pytest.approx(7.47042e-5, rel=1e-5)
    assert joules("fp32", macs=9_384_748_646_400) == pytest.approx(43.1698, rel=1e-5)


@pytest.mark.parametrize(
    ("number", "ratio"), [("fp32", 2.5556), ("fp16", 1.875), ("int8", 3.8333), ("int32", 16.0)]
)
def test_one_tap_multiplied_or_added(number, ratio):
    assert joules(number, macs=1) / joules(number, adds=2) == pytest.approx(ratio, abs=5e-5)


def test_what_has_no_entry_has_no_energy_and_is_named_with_its_share():
    mixed = {"fp32": Ops(macs=60, elementwise=999), "int1": Ops(bit_ops=30), "int4": Ops(adds=10)}
    found = energy(mixed)
    assert found.uj is None
    assert found.unpriced_share == pytest.approx(0.4)
    assert found.without == ("int1 bit_ops", "int4 adds")
    assert energy({"int16": Ops(macs=1)}).without == ("int16 macs",)  # no multiplication known
    assert energy({"int16": Ops(adds=10**6)}).uj == pytest.approx(0.05)
    assert energy({"fp32": Ops(shifts=1)}).uj is None
    assert energy({"fp32": Ops(lookups=1)}).uj is None


def test_elementwise_work_takes_no_part():
    assert energy({"fp32": Ops(elementwise=10**9)}).uj == 0.0
    assert energy({}).uj == 0.0


def test_moving_is_priced_by_the_smallest_memory_that_holds_the_tensor():
    layer = nn.Linear(1024, 16, bias=False)  # 64 KiB of weights, 4 KiB in, 64 bytes out
    counted = count(layer, torch.zeros(1, 1024), traffic=True)
    small, _, large = MEMORIES
    assert counted.traffic == {small: 4096 // 8 + 64 // 8, large: 65536 // 8}
    arithmetic = 1024 * 16 * (TABLE["fp32"].add + TABLE["fp32"].multiply)
    moving = (512 + 8) * 10.0 + 8192 * 100.0
    assert energy(counted.by_number, counted.traffic).uj == pytest.approx(
        (arithmetic + moving) * 1e-6
    )
    wide = count(nn.Linear(2**12, 2**10, bias=False), torch.zeros(1, 2**12), traffic=True)
    assert wide.traffic[BEYOND] == 2**24 // 8  # 16 MiB of weights come from DRAM
    assert energy({}, {BEYOND: 1}).uj == pytest.approx(DRAM * 1e-6)


def test_a_card_carries_the_energy_of_the_model_asked_for():
    net = nn.Linear(1024, 16, bias=False)
    plain, moved = card_of(net, (1024,)), card_of(net, (1024,), energy="arith+mem")
    assert plain.energy_uj == pytest.approx(1024 * 16 * 4.6e-6)
    assert moved.energy_uj > 10 * plain.energy_uj
    assert (plain.macs, plain.peak_bytes) == (moved.macs, moved.peak_bytes)


class Binary(nn.Module):
    """A linear layer of one-bit products, followed by a scale in fp32."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(16, 64))

    def forward(self, x):
        return x.sign() @ self.weight.t().sign()

    def count_ops(self, x, y):
        return {"int1": Ops(bit_ops=64 * y.numel()), "fp32": Ops(macs=y.numel())}

    def stored_bits(self):
        return {"weight": 1}


def test_a_card_names_the_share_without_energy():
    card = card_of(nn.Sequential(Binary(), nn.Linear(16, 4)), (64,))
    assert (card.bit_ops, card.macs) == (1024, 16 + 64)
    assert card.energy_uj is None
    assert card.energy_unpriced == pytest.approx(1024 / (1024 + 80))
    assert any("no energy: 92.8%" in note and "int1 bit_ops" in note for note in card.notes)
    assert card.axis("energy_uj") is None


@pytest.mark.parametrize(
    ("dtype", "number", "pj"), [(torch.float16, "fp16", 1.5), (torch.bfloat16, "bf16", None)]
)
def test_energy_follows_the_number_format_of_the_network(dtype, number, pj):
    net = nn.Linear(8, 4, bias=False).to(dtype)
    assert count(net, torch.zeros(1, 8, dtype=dtype)).by_number == {number: Ops(macs=32)}
    found = card_of(net, (8,)).energy_uj
    assert found == (None if pj is None else pytest.approx(32 * pj * 1e-6))


def test_a_study_chooses_the_model_of_energy(tmp_path):
    def priced(energy):
        measure = {"energy": energy}
        study = Study(
            name="s", desc="d", space="tiny", task="tiny", measure=measure,
            objectives={"top1": "maximize", "energy_uj": "minimize"},
        )  # fmt: skip
        evaluator = Trained(study, tmp_path, tmp_path)
        evaluator._task = TinyDigits()
        return evaluator.price(Tiny())

    plain, moved = priced("arith"), priced("arith+mem")
    assert plain.energy_uj == pytest.approx(plain.macs * 4.6e-6)
    assert moved.energy_uj > plain.energy_uj
    with pytest.raises(ValidationError, match="arith"):
        priced("memory")
