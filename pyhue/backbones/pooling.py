"""A network without its own pooling and classifier, found in the graph of its calls."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx, nn
from torch.nn.functional import adaptive_avg_pool2d

_POOLINGS = (adaptive_avg_pool2d, torch.mean, "mean")


def before_pooling(network: nn.Module) -> fx.GraphModule:
    """The part of a classification network whose result enters the network's own pooling and classifier.

    The pooling is the last average over pixels or, in a transformer, where the class token is taken. Where
    the classifier comes before it and nothing with weights after it (SqueezeNet), the maps are what enters
    the classifier. What the maps do not need - auxiliary heads, the classifier - is left out. Layers keep
    their names.

    Args:
        network: one whose `forward` torch.fx can trace. What depends on `training` there, outside of its
            layers, is as in evaluation.

    Raises:
        ValueError: nothing is pooled.
    """
    whole = fx.GraphModule(network.eval(), _Tracer().trace(network))
    nodes = list(whole.graph.nodes)
    pooling = next((node for node in reversed(nodes) if _pools(node, whole)), None) or next(
        (node for node in reversed(nodes) if _takes_first_token(node)), None
    )
    if pooling is None:
        raise ValueError("nothing is pooled before the classifier")
    maps = pooling.args[0]
    if not any(_weighs(node, whole) for node in nodes[nodes.index(pooling) :]):
        while not _weighs(maps, whole):
            maps = maps.args[0]
        maps = maps.args[0]
        while isinstance(_layer(maps, whole), nn.Dropout):
            maps = maps.args[0]
    nodes[-1].args = (maps,)  # the output's
    whole.graph.eliminate_dead_code()
    return fx.GraphModule(whole, whole.graph).train()  # once more: it takes over the layers in use only


class _Tracer(fx.Tracer):
    """Looks into the network itself, and into what holds its pooling beside the classifier."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        pools = any(isinstance(child, nn.AdaptiveAvgPool2d) for child in m.children())
        return not (isinstance(m, nn.Sequential) and pools)


def _layer(node: fx.Node, network: nn.Module) -> nn.Module | None:
    return network.get_submodule(str(node.target)) if node.op == "call_module" else None


def _pools(node: fx.Node, network: nn.Module) -> bool:
    return isinstance(_layer(node, network), nn.AdaptiveAvgPool2d) or node.target in _POOLINGS


def _takes_first_token(node: fx.Node) -> bool:
    return node.target is operator.getitem and node.args[1] == (slice(None), 0)


def _weighs(node: Any, network: nn.Module) -> bool:
    layer = _layer(node, network)
    return layer is not None and any(True for _ in layer.parameters())
