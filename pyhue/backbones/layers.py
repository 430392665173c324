"""What one layer of a network gives."""

from __future__ import annotations

from torch import Tensor, nn

_SHOWN = 3  # layers inside of one that is not called


class Layer:
    """The layer `name` of a network: what it gives when the network calls it for the last time.

    From the second image on, the network stops there.

    Raises:
        ValueError: the network has no such layer; the message lists those that it has there.
    """

    def __init__(self, network: nn.Module, name: str) -> None:
        parent = network
        parts: list[str] = []
        for part in name.split("."):
            children = dict(parent.named_children())
            if part not in children:
                there = ", ".join(".".join([*parts, child]) for child in children) or "no layers"
                inside = f"{'.'.join(parts)!r} has" if parts else "the network has"
                raise ValueError(f"layer: there is no {name!r}; {inside} {there}")
            parent = children[part]
            parts.append(part)
        self._name = name
        self._calls = 0  # 0: not known yet

    def uncalled(self, network: nn.Module) -> str:
        """What is wrong where the network does not call the layer, and which layers are inside."""
        inside = [f"{self._name}.{child}" for child, _ in network.get_submodule(self._name).named_children()]
        more = f" and {len(inside) - _SHOWN} more" if len(inside) > _SHOWN else ""
        there = f"; inside are {', '.join(inside[:_SHOWN])}{more}" if inside else ""
        return f"layer {self._name!r}: the network does not call it{there}"

    def __call__(self, network: nn.Module, images: Tensor) -> object:
        """The output of the layer for prepared images (n, 3, H, W); None where it is not called."""
        outputs: list[object] = []

        def keep(layer: nn.Module, inputs: object, output: object) -> None:
            outputs.append(output)
            if len(outputs) == self._calls:
                raise _Reached

        handle = network.get_submodule(self._name).register_forward_hook(keep)
        try:
            network(images)
        except _Reached:
            pass
        finally:
            handle.remove()
        self._calls = len(outputs)
        return outputs[-1] if outputs else None


class _Reached(Exception):
    """The layer has been called for the last time."""
