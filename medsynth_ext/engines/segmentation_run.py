"""A segmentation run from a folder of scans to a folder of results, for the command line."""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from ignite.engine import Events
from monai.engines import Evaluator
from monai.engines.utils import IterationEvents
from torch import nn
from tqdm import tqdm

from medsynth_ext.data.files import OutputError, check_writable
from medsynth_ext.data.scans import ScanDataset, ScanError
from medsynth_ext.handlers.weights import WeightsError, load_weights

__all__ = ["SegmentationRun"]

_BAR = "{percentage:3.0f}%|{bar}| {desc} [{elapsed}]"


class SegmentationRun:
    """Loads the weights, segments every scan with a progress bar, and says what came of it.

    A scan that cannot be used is reported as soon as it is met and at the end; the others are still segmented, and the
    exit status is 1. Whatever stops the run (weights, folders, disk) ends in one sentence and exit status 1.

    Args:
        evaluator: runs network and post-processing over ``dataset``; its handlers write the results.
        dataset: the scans.
        network: the evaluator's network.
        output_dir: where the handlers write, for the last line.
        weights: state dict to load; ``None`` keeps the network as it is.
        what: the things in the data set, for the messages.
        doing: what is being done to them.
        done: what was done to them.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        dataset: ScanDataset,
        network: nn.Module,
        *,
        output_dir: str | os.PathLike,
        weights: str | os.PathLike | None = None,
        what: str = "scans",
        doing: str = "segmenting",
        done: str = "segmented",
    ) -> None:
        self.evaluator = evaluator
        self.dataset = dataset
        self.network = network
        self.output_dir = Path(output_dir)
        self.weights = weights
        self.what, self.doing, self.done = what, doing, done

    def run(self) -> None:
        """Segment all scans.

        Raises:
            SystemExit: with one sentence, when a scan, the weights or the output folder is no good.
        """
        started = time.perf_counter()
        try:
            files = self.dataset.files
            if self.weights is not None:
                load_weights(self.network, self.weights)
            # Before the first scan, since a transform that writes would fail inside MONAI; not made, since some writers
            # make it at the end.
            check_writable(self.output_dir, make=False)
            self._evaluate(len(files))
        except (ScanError, WeightsError, OutputError) as error:
            raise SystemExit(f"error: {error}") from None
        bad = self.dataset.failures
        good = len(files) - len(bad)
        seconds = time.perf_counter() - started
        if good:
            text = f"{good} of {len(files)} {self.what} {self.done} in {seconds:.1f} s"
            print(f"{text}; results are in {self.output_dir.resolve()}")
        if bad:
            lines = "\n".join(f"  {sentence}" for _, sentence in bad)
            raise SystemExit(f"error: {len(bad)} of {len(files)} {self.what} could not be {self.done}:\n{lines}")

    def _evaluate(self, total: int) -> None:
        with ExitStack() as stack:
            bar = stack.enter_context(tqdm(total=total, desc=self.doing, file=sys.stderr, bar_format=_BAR))
            done = 0

            def show(share: float, what: str) -> None:
                bar.n = done + share
                bar.set_description_str(f"{done} of {total} {self.what} done{what and ', '}{what}")

            def finished() -> None:
                nonlocal done
                done += 1
                show(0.0, "")

            def failed(path: Path, sentence: str) -> None:
                bar.write(f"skipped: {sentence}", file=sys.stderr)
                finished()

            # shares of the time on a CPU
            for event, share, what in (
                (Events.GET_BATCH_STARTED, 0.0, "reading"),
                (Events.GET_BATCH_COMPLETED, 0.1, "running the network"),
                (IterationEvents.FORWARD_COMPLETED, 0.75, "cleaning and resampling"),
            ):
                stack.enter_context(self.evaluator.add_event_handler(event, show, share, what))
            stack.enter_context(self.evaluator.add_event_handler(Events.ITERATION_COMPLETED, finished))
            self.dataset.on_failure = failed
            try:
                self.evaluator.run()
            finally:
                self.dataset.on_failure = None
