"""What the losses give besides themselves."""

from typing import NamedTuple

from torch import Tensor

from pyhue.nn._options import CORRECT, LSE


class HueCrossEntropyOutput(NamedTuple):
    """What the losses return with ``return_lse`` or ``return_accuracy``; what was not asked for is None.

    Only ``loss`` is differentiable.
    """

    #: As it is returned alone.
    loss: Tensor
    #: log sum_c exp(x_c) of each row of logits, capped if they are: shaped as class targets, float32, of
    #: float64 logits float64; 0 where the target is ignored, NaN where a logit is NaN or +inf.
    lse: Tensor | None
    #: Scalar, float32: the part of the rows not ignored whose target is the first class of largest logit.
    accuracy: Tensor | None


def count_of(outputs: int) -> int:
    """How many results of rows these bits ask for; they come last."""
    return bool(outputs & LSE) + bool(outputs & CORRECT)


def output_of(
    loss: Tensor, of_rows: tuple[Tensor, ...], outputs: int, target: Tensor, ignore_index: int
) -> HueCrossEntropyOutput:
    """The loss with what the operator gave of rows, whose targets are `target`."""
    lse = of_rows[0] if outputs & LSE else None
    accuracy = None
    if outputs & CORRECT:
        accuracy = of_rows[-1].sum() / (target != ignore_index).sum()
    return HueCrossEntropyOutput(loss, lse, accuracy)
