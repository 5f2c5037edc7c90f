"""A search space of one's own: a plain convolutional network of three stages."""

from torch import nn

from nasx.shape import TaskShape
from nasx.space import Space, choice, each, integer


class MyNet(Space):
    """Width of each stage, blocks in each stage, and the activation."""

    name = "my_net"
    tasks = ("classify",)

    width: tuple[int, ...] = each(3, integer(8, 48, step=8, default=16))
    blocks: int = integer(1, 3, default=1)
    activation: str = choice("relu", "silu", default="relu")

    def build(self, shape: TaskShape) -> nn.Module:
        """Return the network: (N, C, H, W) to (N, classes) logits."""
        act = {"relu": nn.ReLU, "silu": nn.SiLU}[self.activation]
        layers: list[nn.Module] = []
        channels = shape.input[0]
        for width in self.width:
            for block in range(self.blocks):
                stride = 2 if block == 0 else 1
                layers += [
                    nn.Conv2d(channels, width, 3, stride, 1, bias=False),
                    nn.BatchNorm2d(width),
                    act(),
                ]
                channels = width
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, shape.classes)]
        return nn.Sequential(*layers)
