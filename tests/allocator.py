"""Networks with a peak of memory, and what torch's allocator saw of it."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile


class Residual(nn.Module):
    def __init__(self, c_in, c_out, stride):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(c_in, c_out, 3, stride, 1), nn.BatchNorm2d(c_out), nn.ReLU(),
            nn.Conv2d(c_out, c_out, 3, 1, 1), nn.BatchNorm2d(c_out),
        )  # fmt: skip
        self.skip = nn.Conv2d(c_in, c_out, 1, stride)

    def forward(self, x):
        return F.relu(self.body(x) + self.skip(x))


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm, self.qkv = nn.LayerNorm(width), nn.Linear(width, 3 * width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x):
        n, tokens, width = x.shape
        q, k, v = self.qkv(self.norm(x)).view(n, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        x = x + F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, tokens, width)
        return x + self.mlp(x)


def peak_of(work):
    """Return the most bytes that torch's allocator holds at once of what `work()` takes."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    now = peak = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return peak


def allocated(model, shape):
    """Return the peak of what torch allocates from the making of the input to the end."""
    with torch.no_grad():
        model(torch.zeros(1, *shape))  # kernels keep what they compile
        return peak_of(lambda: model(torch.zeros(1, *shape)))
