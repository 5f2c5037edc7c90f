"""Weights of few bits in bytes: the layout, what the card makes of it, what is refused."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nasx.cost.card import card_of
from nasx.cost.memory import stored_bytes
from nasx.errors import NasxError
from search_spaces._layers._once import once
from search_spaces._layers.decoded import DecodedConv2d
from search_spaces._layers.int_conv import IntConv2d
from search_spaces._layers.packing import pack, unpack
from search_spaces._layers.xnor import XnorConv2d


def test_the_first_code_of_a_byte_has_its_lowest_bits():
    assert pack(torch.tensor([1, 0, 0, 0, 0, 0, 0, 1, 1]), 1).tolist() == [0b10000001, 1]
    assert pack(torch.tensor([1, 2, 3, 0, 3]), 2).tolist() == [0b00111001, 0b11]
    assert pack(torch.tensor([[1], [15], [7]]), 4).tolist() == [0xF1, 0x07]
    assert pack(torch.tensor([255, 0]), 8).tolist() == [255, 0]


@given(st.sampled_from([1, 2, 4, 8]), st.data())
def test_what_is_packed_comes_back(bits, data):
    codes = data.draw(st.lists(st.integers(0, 2**bits - 1), max_size=70))
    packed = pack(torch.tensor(codes, dtype=torch.int64), bits)
    assert packed.dtype == torch.uint8
    assert packed.numel() == -(-len(codes) * bits // 8)
    assert unpack(packed, bits, len(codes)).tolist() == codes


@pytest.mark.parametrize(
    ("codes", "bits", "message"),
    [
        ([1, 2], 3, "codes of 3 bits: low-bit layers take 1, 2, 4 or 8 bits"),
        ([0, 4], 2, "codes of 2 bits go from 0 to 3; these from 0 to 4"),
        ([-1, 0], 8, "codes of 8 bits go from 0 to 255; these from -1 to 0"),
        ([0.5], 8, "codes of 8 bits are whole numbers; these are torch.float32"),
    ],
)
def test_codes_that_do_not_fit_are_refused(codes, bits, message):
    with pytest.raises(NasxError) as caught:
        pack(torch.tensor(codes), bits)
    assert str(caught.value) == message


def test_weights_come_back_from_a_layer():
    codes = torch.arange(5 * 3 * 9).reshape(5, 3, 3, 3) % 4
    assert torch.equal(IntConv2d.from_codes(codes, 2).weight_codes(), codes.to(torch.uint8))
    # In the file the channels of one tap lie side by side.
    first = unpack(IntConv2d.from_codes(codes, 2).packed, 2, 3)
    assert torch.equal(first, codes[0, :, 0, 0].to(torch.uint8))


def test_the_card_counts_weights_at_their_width():
    signs = torch.ones(6, 5, 3, 3)
    net = nn.Sequential(
        XnorConv2d.from_signs(signs, padding=1, scale=torch.ones(6)),
        IntConv2d.from_codes(torch.zeros(4, 6, 1, 1, dtype=torch.int64), 4, a_bits=2),
        nn.BatchNorm2d(4),
        DecodedConv2d.from_codes(torch.ones(3, 4, 3, 3, dtype=torch.int64), 2, padding=1),
    )
    card = card_of(net, (5, 7, 7))
    assert card.params == 6 * 45 + 6 + 4 * 6 + 8 + 3 * 36
    assert card.bytes == 34 + 4 * 6 + 12 + 4 * 8 + 27  # 270 bits fill 34 bytes
    assert card.bit_ops == 49 * (6 * 45 + 4 * 6 * 4 * 2)
    assert card.macs == 49 * 3 * 36  # that one runs in float
    assert [layer.params for layer in card.by_layer] == [276, 24, 8, 108]
    assert not card.unpriced
    net[1].packed = net[0].packed  # tied: once
    assert stored_bytes(net) == 34 + 4 * 6 + 4 * 8 + 27


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: XnorConv2d.from_signs(torch.zeros(1, 1, 1, 1)), "every weight must be +1 or -1"),
        (lambda: XnorConv2d.from_signs(torch.ones(1, 1, 3, 1)), "wanted (filters, channels, k, k)"),
        (lambda: XnorConv2d.from_signs(torch.ones(2, 1, 1, 1), scale=torch.ones(3)), "3 scales"),
        (lambda: XnorConv2d.from_signs(torch.ones(1, 1, 1, 1), stride=0), "stride = 0 must be"),
        (lambda: IntConv2d.from_codes(torch.ones(1, 1, 1, 1), 3), "weights of 3 bits"),
        (lambda: IntConv2d.from_codes(ONE, 2, a_bits=5), "activations of 5 bits"),
        (lambda: IntConv2d.from_codes(ONE, 2, alpha=0.0), "alpha = 0 must be > 0"),
        (lambda: DecodedConv2d.from_codes(ONE, 32), "weights of 32 bits: low-bit layers take"),
    ],
)
def test_a_layer_that_cannot_be_is_refused_in_one_line(make, message):
    with pytest.raises(NasxError) as caught:
        make()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


ONE = torch.ones(1, 1, 1, 1, dtype=torch.int64)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (
            torch.zeros(1, 3, 5, 5),
            "XnorConv2d: an input of shape (1, 3, 5, 5), wanted (N, 2, H, W)",
        ),
        (torch.zeros(2, 5, 5), "XnorConv2d: an input of shape (2, 5, 5), wanted (N, 2, H, W)"),
        (torch.zeros(1, 2, 5, 5).half(), "XnorConv2d takes float32, not float16"),
        (torch.zeros(1, 2, 5, 5).double(), "XnorConv2d takes float32, not float64"),
        (
            torch.zeros(1, 2, 5, 2),
            "XnorConv2d: an input of 5 x 2 is smaller than its window of 3 x 3 (padding 0)",
        ),
    ],
)
def test_a_wrong_input_is_refused_in_one_line(x, message):
    with pytest.raises(NasxError) as caught:
        XnorConv2d.from_signs(torch.ones(4, 2, 3, 3))(x)
    assert str(caught.value) == message


def test_what_is_made_of_a_weight_is_made_once_and_goes_with_it():
    from search_spaces._layers import _once

    weight, made = torch.zeros(4, dtype=torch.uint8), []

    def make():
        made.append(None)
        return len(made)

    before = len(_once._known)
    assert [once(weight, "a", make), once(weight, "a", make)] == [1, 1]
    assert once(weight, "b", make) == 2
    assert once(weight[1:], "a", make) == 3
    assert once(weight.view(4), "a", make) == 1  # the same memory
    weight.add_(1)
    assert once(weight, "a", make) == 4
    with torch.inference_mode():
        other = weight.clone()
        assert [once(other, "a", make), once(other, "a", make)] == [5, 5]
        other.add_(1)  # nobody counts the versions of such a tensor
        assert once(other, "a", make) == 6
    assert len(_once._known) == before + 2
    del weight, other
    assert len(_once._known) == before
