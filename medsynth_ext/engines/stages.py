"""The stages of a training that learns one thing after the other, and the fall of its rates at the end."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["Stages"]


class Stages:
    """Names of consecutive parts of one training, so that one run and one checkpoint serve them all.

    Args:
        epochs: of the whole training.
        first: name to number of epochs of the stages before the last one, in their order; 0 leaves a stage out.
        last: name of the last stage, which has the epochs that are left.
        decay: epochs at the end in which the rates fall linearly to 0.

    Raises:
        ValueError: for negative numbers, or more epochs in the parts than in the whole.

    >>> stages = Stages(10, {"one": 2, "two": 3}, last="three", decay=4)
    >>> [stages.at(epoch) for epoch in (1, 2, 3, 5, 6, 10)]
    ['one', 'one', 'two', 'two', 'three', 'three']
    >>> [round(stages.rate(done), 1) for done in (0, 6, 7, 9)]
    [1.0, 1.0, 0.8, 0.4]
    """

    def __init__(self, epochs: int, first: Mapping[str, int], *, last: str, decay: int = 0) -> None:
        if min([decay, *first.values()]) < 0 or sum(first.values()) > epochs or decay > epochs:
            raise ValueError(
                f"{epochs} epochs must hold the stages {dict(first)} and {decay} epochs of decay, all at least 0"
            )
        self.epochs = epochs
        self.first = dict(first)
        self.last = last
        self.decay = decay

    def at(self, epoch: int) -> str:
        """The stage of an epoch, counted from 1."""
        for name, count in self.first.items():
            if epoch <= count:
                return name
            epoch -= count
        return self.last

    def rate(self, done: int) -> float:
        """The share of the learning rate after so many epochs, for ``LambdaLR``."""
        return 1 - max(0, done - (self.epochs - self.decay)) / (self.decay + 1)
