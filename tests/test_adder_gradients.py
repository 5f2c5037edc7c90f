"""The gradients of an adder layer: one a step, computed where they are wanted, and no second."""

import copy
import pickle

import pytest
import torch
from torch import nn

from adder_nets import images, loss, network
from adder_oracle import drawn
from nasx.errors import NasxError
from search_spaces._layers._adder_ops import adder_conv2d
from search_spaces._layers.adder import AdderConv2d

SUMMED = "gradients of an adder layer were added up over two backward passes or two"


@pytest.mark.parametrize(
    "copied", [lambda m: m, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
)
def test_accumulation_is_refused(copied):
    model = copied(network())
    loss(model, images()).backward()
    with pytest.raises(NasxError, match=SUMMED):
        loss(model, images(2)).backward()


@pytest.mark.parametrize("set_to_none", [True, False])
def test_gradients_that_take_each_other_away_are_refused(set_to_none):
    """Their sum is shorter than one of them, and its norm gives nothing away."""
    layer, x = AdderConv2d(3, 4, 3), images()
    for _ in range(2):
        layer(x).sum().backward()
        layer.zero_grad(set_to_none=set_to_none)
    layer(x).sum().backward()
    with pytest.raises(NasxError, match=SUMMED):
        (-layer(x).sum()).backward()


def test_a_shared_weight_is_refused():
    first, second = AdderConv2d(4, 4, 3, padding=1), AdderConv2d(4, 4, 3, padding=1)
    second.weight = first.weight
    x = torch.randn(2, 4, 5, 5)
    with pytest.raises(NasxError, match=SUMMED):
        loss(nn.Sequential(first, second), x).backward()


@pytest.mark.parametrize("set_to_none", [True, False])
def test_zeroed_gradients_are_welcome(set_to_none):
    model = network()
    for _ in range(3):
        model.zero_grad(set_to_none=set_to_none)
        loss(model, images()).backward()


def test_gradients_that_are_only_asked_for_are_welcome():
    model = network()
    loss(model, images()).backward()
    torch.autograd.grad(loss(model, images()), list(model.parameters()))
    loss(model, images()).backward(inputs=[model[0].weight])


def test_no_second_derivative():
    x, layer = images().requires_grad_(), AdderConv2d(3, 4, 3)
    both = torch.autograd.grad(loss(layer, x), (x, layer.weight), create_graph=True)
    for gradient in both:
        with pytest.raises(NasxError, match="no second derivative"):
            gradient.sum().backward()


@pytest.mark.parametrize("wanted", [(True, False), (False, True), (False, False)])
def test_only_what_is_wanted_is_computed(wanted):
    x, w, grad = drawn(2, 3, 6, 4, 3, 1, 1)
    x.requires_grad_(wanted[0])
    w.requires_grad_(wanted[1])
    y = adder_conv2d(x, w, 1, 1)
    assert y.requires_grad == any(wanted)
    if any(wanted):
        y.backward(grad)
    assert (x.grad is not None, w.grad is not None) == wanted
