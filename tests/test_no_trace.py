"""Counting leaves nothing behind, whatever the forward does to its own network."""

import pytest
import torch
from torch import nn

from nasx.cost.card import card_of
from nasx.cost.ops import count
from nasx.errors import NasxError
from test_ops import small_net


class Busy(nn.Module):
    """Does one thing to itself on its way; `large` is beyond what is counted on real numbers."""

    def __init__(self, act, large):
        super().__init__()
        self.first = nn.Conv2d(8, 8, 3, padding=1)
        self.second = nn.Sequential(*(nn.Conv2d(8, 8, 3, padding=1) for _ in range(3)))
        self.act, self.table, self.large = act, None, large

    def forward(self, x):
        x = self.first(x)
        self.act(self, x)
        return self.second(x)


def clip(net, x):
    with torch.no_grad():
        net.first.weight.clamp_(-0.01, 0.01)
        net.first.weight[0].mul_(2.0)


def remember(net, x):
    net.table = torch.linspace(0, 1, x.shape[-1]) + x.mean()


def register(net, x):
    if not hasattr(net.first, "grid"):
        net.first.register_buffer("grid", torch.linspace(0, 1, x.shape[-1]))
        net.first.register_forward_hook(lambda m, i, o: None)
        net.first.more = nn.Linear(1, 1)


def replace(net, x):
    net.first.weight = nn.Parameter(torch.zeros(8, 8, 3, 3))
    net.first.stride = (2, 2)


def through_data(net, x):
    net.first.weight.data.clamp_(-0.01, 0.01)


def trace(net):
    modules = dict(net.named_modules())
    return [
        [(k, id(v), v.tolist()) for k, v in (*net.named_parameters(), *net.named_buffers())],
        {n: {k: id(v) for k, v in m.__dict__.items()} for n, m in modules.items()},
        {n: [list(m._parameters), list(m._buffers), list(m._modules), list(m._forward_hooks)]
         for n, m in modules.items()},
    ]  # fmt: skip


@pytest.mark.parametrize("side", [16, 2000])  # 576 x side^2 MACs a layer: real numbers, or shapes
@pytest.mark.parametrize("act", [clip, remember, register, replace, through_data])
def test_a_network_that_changes_itself_is_as_it_was(act, side):
    net = Busy(act, side)
    before = trace(net)
    assert count(net, torch.zeros(1).expand(1, 8, side, side)).macs == 4 * 576 * side**2
    assert trace(net) == before
    assert net(torch.zeros(1, 8, 8, 8)).sum().item() is not None


def test_an_embedding_that_bounds_its_rows_keeps_them():
    layer = nn.Embedding(10, 4, max_norm=0.1)
    before = layer.weight.detach().clone()
    assert count(layer, torch.arange(10)).unpriced == ()
    assert torch.equal(layer.weight, before)


def test_the_old_weight_norm_keeps_its_weight():
    with pytest.warns(FutureWarning, match="weight_norm"):
        net = nn.utils.weight_norm(nn.Conv2d(3, 4, 3))
    net(torch.zeros(1, 3, 8, 8))
    weight = net.weight
    assert count(net, torch.zeros(1, 3, 8, 8)).macs == 4 * 36 * 27
    assert net.weight is weight


def test_a_lazy_layer_asks_to_be_run_first():
    net = nn.Sequential(nn.LazyConv2d(4, 3))
    with pytest.raises(NasxError, match=r"'0.weight' takes its shape from the first input"):
        count(net, torch.zeros(1, 3, 8, 8))
    net(torch.zeros(1, 3, 8, 8))
    assert count(net, torch.zeros(1, 3, 8, 8)).macs == 4 * 36 * 27


class Stateful(nn.Module):
    """Everything that counting could leave a trace in."""

    def __init__(self, broken):
        super().__init__()
        self.net, self.frozen, self.broken = small_net(), nn.BatchNorm2d(3), broken
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("replaced", torch.zeros(2))
        self.hooked = []
        self.net.register_forward_hook(lambda m, i, o: self.hooked.append(tuple(o.shape)))

    def forward(self, x):
        self.calls += 1
        self.replaced = self.replaced + 1
        y = self.net(self.frozen(x) + torch.rand(()))
        if self.broken:
            raise RuntimeError("the head does not fit")
        return y


def whole_trace(model):
    hooks = (
        "_forward_hooks",
        "_forward_pre_hooks",
        "_forward_hooks_with_kwargs",
        "_backward_hooks",
    )
    everywhere = torch.nn.modules.module
    return [
        [(k, v.tolist()) for k, v in model.state_dict().items()],
        [(n, id(b)) for n, b in model.named_buffers()],
        [m.training for m in model.modules()],
        [list(getattr(m, h)) for m in model.modules() for h in hooks],
        [p.requires_grad for p in model.parameters()],
        torch.get_rng_state().tolist(),
        torch.backends.mha.get_fastpath_enabled(),
        {k: list(v) for k, v in vars(everywhere).items() if k.startswith("_global_") and v},
        torch.is_grad_enabled(),
    ]


@pytest.mark.parametrize("broken", [False, True])
def test_counting_changes_nothing(broken):
    model = Stateful(broken).train()
    model.frozen.eval()
    before = whole_trace(model)
    if broken:
        with pytest.raises(RuntimeError, match="head does not fit"):
            count(model, torch.ones(2, 3, 16, 16))
        with pytest.raises(
            NasxError, match=r"Stateful: cannot count.*\(3, 16, 16\).*head does not"
        ):
            card_of(model, (3, 16, 16))
    else:
        assert count(model, torch.ones(2, 3, 16, 16)).macs > 0
        assert model.hooked == [(2, 10)]  # the network's own hooks run
    assert whole_trace(model) == before
