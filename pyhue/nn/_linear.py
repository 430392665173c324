"""The hue loss fused with the linear layers before it, a chunk of rows at a time."""

from typing import Any

import torch
from torch import Tensor

from pyhue.nn._hue_cross_entropy import NO_DOUBLE_BACKWARD, Options, hue_cross_entropy_outputs, is_one

CHUNK_LOGITS = 1 << 24  # of a chunk: 64 MiB of float32, and as much for their gradient


class LinearHueCrossEntropyFunction(torch.autograd.Function):
    """The loss, summed over rows and divided by ``total``; the forward accumulates the gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor,
        hue_weight: Tensor,
        hue_bias: Tensor,
        target: Tensor,
        labels: Tensor,
        class_weight: Tensor | None,
        total: Tensor,
        options: Options,
    ) -> Tensor:
        linears = (features, weight, bias, hue_weight, hue_bias)
        gradients = [torch.zeros_like(tensor) for tensor in linears] if options.gradients else []
        row_weight = total.reciprocal().expand(len(features)).contiguous()
        loss = features.new_zeros(())
        rows = max(16, CHUNK_LOGITS // len(weight))
        for begin in range(0, len(features), rows):
            chunk = slice(begin, begin + rows)
            x = features[chunk]
            logits, hue = torch.addmm(bias, x, weight.T), torch.addmm(hue_bias, x, hue_weight.T)
            arguments = (logits, hue, target[chunk], labels, class_weight, row_weight[chunk], options)
            part, grad_logits, grad_hue, _ = hue_cross_entropy_outputs(*arguments)
            loss += part
            if gradients:
                torch.addmm(grad_hue @ hue_weight, grad_logits, weight, out=gradients[0][chunk])
                gradients[1].addmm_(grad_logits.T, x)
                gradients[2] += grad_logits.sum(0)
                gradients[3].addmm_(grad_hue.T, x)
                gradients[4] += grad_hue.sum(0)
            del logits, grad_logits, arguments  # before the next chunk needs the room
        ctx.save_for_backward(*gradients)
        return loss / total

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(NO_DOUBLE_BACKWARD)
        gradients = ctx.saved_tensors
        if not is_one(grad_loss):
            gradients = tuple(gradient * grad_loss for gradient in gradients)
        return (*gradients, None, None, None, None, None)
