"""What counts as a network's own pooling, and what the error says of any other."""

import pytest

pytest.importorskip("torch")

import torch
from torch import nn
from torch.nn import functional

from pyhue.backbones.pooling import before_pooling


class Network(nn.Module):
    """Maps of 8 channels, and what `forward` makes of the network and the maps."""

    def __init__(self, head):
        super().__init__()
        self.conv, self.fc, self.classes = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 5), nn.Conv2d(8, 5, 1)
        self.average, self.largest = nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1)
        self.fixed, self.drop, self.head = nn.AvgPool2d(8), nn.Dropout(), head

    def maps(self, x):
        return functional.relu(self.conv(x))

    def forward(self, x):
        return self.head(self, self.maps(x))


RECOGNISED = {
    "module": lambda net, y: net.fc(net.average(y).flatten(1)),
    "module by name": lambda net, y: net.fc(net.average(input=y).flatten(1)),
    "function": lambda net, y: net.fc(functional.adaptive_avg_pool2d(y, 1).flatten(1)),
    "method": lambda net, y: net.fc(y.mean((2, 3))),
    "method by name": lambda net, y: net.fc(y.mean(dim=[-2, -1])),
    "torch.mean": lambda net, y: net.fc(torch.mean(y, (2, 3))),
    "torch.mean by name": lambda net, y: net.fc(torch.mean(input=y, dim=(2, 3))),
    "torch.mean, the other way round": lambda net, y: net.fc(torch.mean(dim=(2, 3), input=y)),
    "logits less their mean": lambda net, y: (lambda z: z - z.mean((1,), keepdim=True))(
        net.fc(net.average(y).flatten(1))
    ),
    "logits by their mean over all": lambda net, y: (lambda z: z / z.mean())(net.fc(y.mean((2, 3)))),
    "classifier first": lambda net, y: net.average(net.classes(net.drop(y))).flatten(1),
    "classifier first, by name": lambda net, y: torch.mean(input=net.classes(input=y), dim=(2, 3)),
}


@pytest.mark.parametrize("kind", RECOGNISED)
def test_maps_are_what_enters_the_pooling(kind):
    network = Network(RECOGNISED[kind])
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(before_pooling(network).eval()(images), network.maps(images))


@pytest.mark.parametrize(
    "head",
    [
        lambda net, y: net.fc(net.largest(y).flatten(1)),
        lambda net, y: net.fc(net.fixed(y).flatten(1)),
        lambda net, y: net.fc(y.sum((2, 3)) / 64),
        lambda net, y: net.fc(y.flatten(1)[:, :8]).mean(1, keepdim=True),
    ],
)
def test_other_kinds_are_an_error_that_says_which_are_recognised(head):
    with pytest.raises(ValueError, match=r"^no pooling is recognised .*neither AdaptiveAvgPool2d, .*mean"):
        before_pooling(Network(head))


def test_a_network_that_pools_its_images():
    class Pools(nn.Module):
        def forward(self, x):
            return x.mean((2, 3))

    with pytest.raises(ValueError, match=r"^nothing with weights is before the pooling$"):
        before_pooling(Pools())
