"""A network without its own pooling and classifier, found in the graph of its calls."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx, nn
from torch.nn.functional import adaptive_avg_pool2d

_MEANS = (torch.mean, "mean")
_PIXELS = 2  # dimensions that a mean of maps is over; a mean of logits is over one or all


def before_pooling(network: nn.Module) -> fx.GraphModule:
    """The part of a classification network whose result enters the network's own pooling and classifier.

    The pooling is the last average over pixels - AdaptiveAvgPool2d, adaptive_avg_pool2d, or a mean over two
    dimensions - or, in a transformer, where the class token is taken. Pooling of another kind, GeM's powers
    or AvgPool2d, is not recognised. Where
    the classifier comes before it and nothing with weights after it (SqueezeNet), the maps are what enters
    the classifier. What the maps do not need - auxiliary heads, the classifier - is left out. Layers keep
    their names.

    Args:
        network: one whose `forward` torch.fx can trace. What depends on `training` there, outside of its
            layers, is as in evaluation.

    Raises:
        ValueError: there is no pooling of these kinds.
    """
    whole = fx.GraphModule(network.eval(), _Tracer().trace(network))
    nodes = list(whole.graph.nodes)
    pooling = next((node for node in reversed(nodes) if _pools(node, whole)), None) or next(
        (node for node in reversed(nodes) if _takes_first_token(node)), None
    )
    if pooling is None:
        raise ValueError(
            "no pooling is recognised before the classifier: neither AdaptiveAvgPool2d, adaptive_avg_pool2d, "
            "a mean over two dimensions nor a class token that is taken"
        )
    maps = _input(pooling)
    if not any(_weighs(node, whole) for node in nodes[nodes.index(pooling) :]):
        while not _weighs(maps, whole):
            maps = _input(maps)
        maps = _input(maps)
        while isinstance(_layer(maps, whole), nn.Dropout):
            maps = _input(maps)
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
    if node.target in _MEANS:
        dims = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
        return isinstance(dims, (tuple, list)) and len(dims) == _PIXELS
    return isinstance(_layer(node, network), nn.AdaptiveAvgPool2d) or node.target is adaptive_avg_pool2d


def _input(node: Any) -> Any:
    """What a call is applied to, by position or by name."""
    found = [*node.args, *node.kwargs.values()]
    if not found:
        raise ValueError("nothing with weights is before the pooling")
    return node.kwargs.get("input", found[0])


def _takes_first_token(node: fx.Node) -> bool:
    return node.target is operator.getitem and node.args[1] == (slice(None), 0)


def _weighs(node: Any, network: nn.Module) -> bool:
    layer = _layer(node, network)
    return layer is not None and any(True for _ in layer.parameters())
