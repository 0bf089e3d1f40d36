"""What a method gives to the claims machinery."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from medsynth_ext.claims.claim import Claim, Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Arm", "Progress", "Study"]


class Progress(Protocol):
    """Called now and then by long work with the finished fraction and a word on what is being done."""

    def __call__(self, fraction: float, text: str = "") -> None: ...


@dataclass(frozen=True)
class Arm:
    """One way of doing things that is compared with others.

    Args:
        name: short, fit for a folder.
        description: in words.
        seeds: the arm is run once per seed.
        settings: everything that its figures depend on; stored figures are used again only for equal settings.
        alone: run without anything beside it, with all threads (for timings).
    """

    name: str
    description: str
    seeds: tuple[int, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    alone: bool = False


class Study(ABC):
    """The arms and claims of a method. Objects are sent to worker processes, so they must be picklable.

    Everything is addressed by names and seeds, so that any part can be made again after the run was killed.
    """

    @abstractmethod
    def arms(self) -> Sequence[Arm]:
        """All arms."""

    @abstractmethod
    def claims(self) -> Sequence[Claim]:
        """All claims, in the order of the card."""

    @abstractmethod
    def run(self, arm: Arm, seed: int, *, folder: Path, data: Path, progress: Progress) -> dict[str, Any]:
        """Train and evaluate an arm with a seed.

        Args:
            arm: one of :meth:`arms`.
            seed: one of its seeds.
            folder: a folder of its own for weights and pictures; what is left there by a killed run may be used.
            data: the folder in which :meth:`prepare` left its files.
            progress: tells the user how far it is.

        Returns:
            The figures: names, numbers and lists of them, as JSON can hold.
        """

    def items(self, arms: Sequence[Arm]) -> Sequence[str]:
        """Names of the data that these arms share and that are made before any of them runs."""
        return ()

    def prepare(self, item: str, *, data: Path, progress: Progress) -> None:
        """Make the shared data of this name under ``data``; returns at once where they are there already."""
        raise NotImplementedError(f"{type(self).__name__} names the item {item} but cannot make it")

    def draw(self, results: Results, folders: Mapping[str, Path]) -> Figure | None:
        """A figure of the results; ``folders`` holds the folder of every arm and seed as ``arm/seed``.

        Without one (``None``) the machinery draws every condition beside its limit.
        """
        return None
