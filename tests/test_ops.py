"""Operation counts against counts worked by hand, one operator at a time."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from nasx.cost.card import CostCard, card_of
from nasx.cost.ops import Ops, count


class Call(nn.Module):
    """A module whose forward is the given function of itself and its inputs."""

    def __init__(self, function, **weights):
        super().__init__()
        self.function = function
        for name, shape in weights.items():
            setattr(self, name, nn.Parameter(torch.ones(shape)))

    def forward(self, *inputs):
        return self.function(self, *inputs)


class Subclassed(nn.Conv2d):
    """A counter that looks layers up by their exact type finds nothing for this one."""


IMAGE = (1, 16, 16, 16)
DENSE = 32 * 256 * 16 * 9
MACS = {  # name: (network, input shape, multiply-accumulates by hand)
    "conv 3x3": (lambda: nn.Conv2d(16, 32, 3, padding=1), IMAGE, DENSE),
    "conv without bias": (lambda: nn.Conv2d(16, 32, 3, padding=1, bias=False), IMAGE, DENSE),
    "conv subclass": (lambda: Subclassed(16, 32, 3, padding=1), IMAGE, DENSE),
    "conv functional": (
        lambda: Call(lambda m, x: F.conv2d(x, m.w, padding=1), w=(32, 16, 3, 3)),
        IMAGE,
        DENSE,
    ),
    "conv stride 2, no padding": (lambda: nn.Conv2d(16, 8, 3, 2), IMAGE, 8 * 49 * 16 * 9),
    "conv dilated": (lambda: nn.Conv2d(16, 8, 3, dilation=2), IMAGE, 8 * 144 * 16 * 9),
    "conv groups 4": (lambda: nn.Conv2d(16, 32, 3, padding=1, groups=4), IMAGE, DENSE // 4),
    "conv depthwise": (lambda: nn.Conv2d(16, 16, 5, padding=2, groups=16), IMAGE, 16 * 256 * 25),
    "conv oblong": (lambda: nn.Conv2d(16, 4, (1, 7), padding=(0, 3)), IMAGE, 4 * 256 * 16 * 7),
    "conv 1D": (lambda: nn.Conv1d(4, 6, 3), (2, 4, 10), 2 * 6 * 8 * 4 * 3),
    "conv 3D": (lambda: nn.Conv3d(2, 3, 3, padding=1), (1, 2, 4, 5, 6), 3 * 120 * 2 * 27),
    "conv of a batch": (lambda: nn.Conv2d(16, 8, 1), (5, 16, 4, 4), 5 * 8 * 16 * 16),
    "conv of one image": (lambda: nn.Conv2d(16, 8, 1), (16, 4, 4), 8 * 16 * 16),
    "transposed": (lambda: nn.ConvTranspose2d(16, 8, 4, 2, 1), IMAGE, 16 * 256 * 8 * 16),
    "transposed groups 4": (
        lambda: nn.ConvTranspose2d(16, 8, 4, 2, 1, groups=4),
        IMAGE,
        16 * 256 * 2 * 16,
    ),
    "transposed 1D": (lambda: nn.ConvTranspose1d(4, 6, 3), (1, 4, 10), 4 * 10 * 6 * 3),
    "linear": (lambda: nn.Linear(64, 10), (1, 64), 640),
    "linear over tokens": (lambda: nn.Linear(8, 3, bias=False), (2, 5, 8), 2 * 5 * 8 * 3),
    "matmul twice": (
        lambda: Call(lambda m, x: x @ m.w.t() @ m.w, w=(128, 64)),
        (1, 10, 64),
        2 * 10 * 64 * 128,
    ),
    "matrix times vector": (lambda: Call(lambda m, x: x @ m.w, w=(64,)), (10, 64), 640),
    "dot": (lambda: Call(lambda m, x: x @ m.w, w=(64,)), (64,), 64),
    "baddbmm": (lambda: Call(lambda m, x: torch.baddbmm(x, x, x)), (3, 4, 4), 3 * 64),
    "addbmm": (lambda: Call(lambda m, x: torch.addbmm(x[0], x, x)), (3, 4, 4), 3 * 64),
    "addmv": (lambda: Call(lambda m, x: torch.addmv(x[0], x, x[1])), (4, 4), 16),
    "einsum": (
        lambda: Call(lambda m, x: torch.einsum("bik,bjk->bij", x, x)),
        (1, 20, 32),
        20 * 20 * 32,
    ),
    "scaled dot product": (
        lambda: Call(lambda m, x: F.scaled_dot_product_attention(x, x[:, :, :5], x[:, :, :5])),
        (2, 3, 7, 4),
        2 * 3 * (7 * 5 * 4 + 7 * 5 * 4),
    ),
    "gru": (lambda: nn.GRU(32, 64), (10, 1, 32), 10 * 3 * 64 * (32 + 64)),
    "lstm": (lambda: nn.LSTM(32, 64), (10, 2, 32), 2 * 10 * 4 * 64 * (32 + 64)),
    "taken in inference mode": (
        lambda: Call(torch.inference_mode()(lambda m, x: F.linear(x, m.w)), w=(6, 4)),
        (3, 4),
        72,
    ),
}

ELEMENTWISE = {  # name: (network, input shape, elements by hand)
    "relu": (nn.ReLU, (1, 4, 3, 3), 36),
    "relu in place": (lambda: nn.ReLU(inplace=True), (1, 4, 3, 3), 36),
    "hardswish in place": (lambda: nn.Hardswish(inplace=True), (1, 4, 3, 3), 36),
    "batch norm": (lambda: nn.BatchNorm2d(4), (2, 4, 3, 3), 72),
    "layer norm": (lambda: nn.LayerNorm(4), (2, 5, 4), 40),
    "group norm": (lambda: nn.GroupNorm(2, 4), (2, 4, 3, 3), 72),
    "average pooling": (lambda: nn.AvgPool2d(2), (1, 4, 6, 6), 36),
    "max pooling": (lambda: nn.MaxPool2d(2), (1, 4, 6, 6), 36),
    "adaptive pooling": (lambda: nn.AdaptiveAvgPool2d(3), (1, 4, 6, 6), 36),
    "global pooling": (lambda: nn.AdaptiveAvgPool2d(1), (1, 4, 6, 6), 4),
    "global pooling, functional": (lambda: Call(lambda m, x: x.mean((2, 3))), (1, 4, 6, 6), 4),
    "max over space": (lambda: Call(lambda m, x: x.amax((2, 3))), (1, 4, 6, 6), 4),
    "softmax": (lambda: nn.Softmax(1), (2, 5), 10),
    "prelu": (nn.PReLU, (2, 5), 10),
    "residual": (lambda: Call(lambda m, x: x + x), (2, 5), 10),
    "scaled by channel": (lambda: Call(lambda m, x: x * m.w, w=(4, 1, 1)), (1, 4, 3, 3), 36),
    "upsampled": (lambda: nn.Upsample(scale_factor=2), (1, 2, 3, 3), 72),
    "concatenated": (lambda: Call(lambda m, x: torch.cat([x, x], 1)), (1, 2, 3), 12),
    "padded": (lambda: nn.ZeroPad2d(1), (1, 1, 2, 2), 16),
    "pixel shuffle": (lambda: nn.PixelShuffle(2), (1, 4, 3, 3), 36),
    "views": (
        lambda: Call(lambda m, x: x.view(4, 9).t()[1:].transpose(0, 1)[None].expand(2, -1, -1)),
        (1, 4, 3, 3),
        0,
    ),
    "copies of layout": (lambda: Call(lambda m, x: x.transpose(1, 2).contiguous()), (1, 4, 3), 12),
    "dropout, not active in eval": (nn.Dropout, (2, 5), 0),
}


@pytest.mark.parametrize("name", MACS)
def test_macs_are_those_worked_by_hand(name):
    make, shape, by_hand = MACS[name]
    counted = count(make(), torch.ones(shape))
    assert counted.macs == by_hand
    assert counted.unpriced == ()


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_operators_count_one_per_output_element(name):
    make, shape, by_hand = ELEMENTWISE[name]
    counted = count(make(), torch.ones(shape))
    assert (counted.elementwise, counted.macs, counted.unpriced) == (by_hand, 0, ())


@pytest.mark.parametrize("training", [False, True])
def test_multi_head_attention_counts_alike_in_train_and_eval(training):
    layer = nn.MultiheadAttention(64, 4, batch_first=True).train(training)
    x = torch.ones(1, 20, 64)
    assert count(layer, x, x, x).macs == 4 * 20 * 64 * 64 + 2 * 20 * 20 * 64


def small_net():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1, bias=False),
        nn.BatchNorm2d(8),
        nn.SiLU(),
        nn.Conv2d(8, 8, 3, 1, 1, groups=8),
        nn.Conv2d(8, 16, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    )


def test_torch_counts_twice_as_many_flops():
    net, x = small_net().eval(), torch.ones(2, 3, 16, 16)
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        net(x)
    assert count(net, x).macs == flops.get_total_flops() / 2


def test_shapes_alone_are_enough():
    with torch.device("meta"):
        net, x = small_net(), torch.empty(2, 3, 16, 16)
    assert count(net, x).macs == count(small_net(), torch.ones(2, 3, 16, 16)).macs


def test_a_module_used_three_times_counts_three_times():
    layer = nn.Conv2d(16, 16, 3, padding=1)
    counted = count(nn.Sequential(layer, layer, layer), torch.ones(IMAGE))
    assert counted.macs == 3 * 16 * 256 * 144
    assert list(counted.by_layer) == ["", "0"]
    assert counted.by_layer["0"].calls == 3


def test_layers_are_named_and_add_up():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU())

        def forward(self, x):
            return F.conv2d(x + self.body(x), torch.ones(2, 4, 1, 1))

    counted = count(nn.Sequential(Block()), torch.ones(1, 4, 3, 3))
    own = {name: (layer.kind, layer.ops) for name, layer in counted.by_layer.items() if layer.ops}
    assert own == {
        "0": ("Block", Ops(macs=2 * 9 * 4, elementwise=36)),
        "0.body.0": ("Conv2d", Ops(macs=4 * 9 * 4)),
        "0.body.1": ("ReLU", Ops(elementwise=36)),
    }
    assert counted.by_layer["0"].output == (1, 2, 3, 3)
    assert counted.total == sum((layer.ops for layer in counted.by_layer.values()), Ops())


class Adder(nn.Module):
    """Add instead of multiply: 2 additions per tap; what it is computed with does not count."""

    def __init__(self, c_in, c_out):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(c_out, c_in))
        self.inner = nn.Linear(c_in, c_in)

    def forward(self, x, scale=1.0):
        return -scale * torch.cdist(self.inner(x), self.weight, p=1)

    def count_ops(self, x, *rest):
        assert torch.ones(3, 3).matmul(torch.ones(3, 3)).numel() == 9  # arithmetic here is free
        return Ops(adds=2 * rest[-1].numel() * self.weight.shape[1])


def test_a_layer_prices_itself_and_its_inside_is_not_counted_again():
    counted = count(nn.Sequential(Adder(4, 6), nn.Linear(6, 2)), torch.ones(5, 4))
    assert counted.total == Ops(macs=5 * 6 * 2, adds=2 * 5 * 6 * 4)
    assert set(counted.by_layer) == {"", "0", "1"}
    by_keyword = Call(lambda m, x: m.layer(x, scale=2.0))
    by_keyword.layer = Adder(4, 6)
    assert count(by_keyword, torch.ones(5, 4)).adds == 2 * 5 * 6 * 4


def test_an_operator_without_a_price_is_named():
    net = Call(lambda m, x: torch.cdist(x, x, p=1) + torch.cdist(x, x, p=1))
    assert count(net, torch.ones(3, 4)).unpriced == ("aten._cdist_forward x2",)
    assert card_of(net, (3, 4)).unpriced == ("aten._cdist_forward x2",)


def test_a_card_states_costs_per_sample_and_layer():
    net = small_net()
    card = card_of(net, (3, 16, 16), trained=nn.Sequential(net, nn.Linear(10, 10)))
    macs = 8 * 64 * 27 + 8 * 64 * 9 + 16 * 64 * 8 + 160
    params = 216 + 16 + 80 + 144 + 170
    assert (card.macs, card.macs_max, card.axis("flops")) == (macs, macs, 2 * macs)
    assert (card.params, card.params_trained, card.bytes) == (params, params + 110, 4 * params)
    assert (card.input, card.unpriced, card.notes) == ((3, 16, 16), (), ())
    assert card.energy_uj == pytest.approx(macs * 4.6e-6)
    # Around the depthwise layer: the caller's input, its own, and what the kernel reorders.
    assert card.peak_bytes == 4 * (3 * 256 + 8 * 64 + (16 * 64 + 72 + 16 * 64))
    assert sum(layer.params for layer in card.by_layer) == params
    assert sum(layer.macs for layer in card.by_layer) == macs
    first = card.by_layer[0]
    assert (first.name, first.kind, first.params, first.output) == ("0", "Conv2d", 216, (8, 8, 8))
    assert CostCard.from_json(card.to_json()) == card


def test_a_card_counts_a_tied_weight_once_and_bytes_at_their_type():
    net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)).double()
    net[1].weight = net[0].weight
    card = card_of(net, (4,))
    assert (card.params, card.bytes, card.macs) == (16, 128, 32)
    assert [layer.params for layer in card.by_layer] == [16, 0]


def test_a_card_of_a_network_with_several_inputs():
    net = Call(lambda m, a, b: F.avg_pool2d(a, 2) + b)
    assert card_of(net, ((2, 4, 4), (2, 2, 2))).by_layer[0].elementwise == 16


def test_a_branch_of_training_is_not_counted():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.aside = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.body(x) + (self.aside(x) if self.training else 0.0)

    net = Branching().train()
    assert count(net, torch.zeros(1, 4)).macs == 16
    assert net.training
    assert net.aside.training
