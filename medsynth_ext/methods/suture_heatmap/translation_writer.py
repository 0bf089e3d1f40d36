"""Translated frames as a folder of labelled frames."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from PIL import Image
from torch import Tensor

from medsynth_ext.data.files import OutputError, replacing
from medsynth_ext.data.point_frames import frame_name, write_frame

__all__ = ["TranslationWriter"]


class TranslationWriter:
    """Writes the translated picture of every frame, with its points, in the layout that the frames have.

    Everything goes into a hidden folder beside ``output_dir``, which takes its name when all frames are done: a
    training set is there whole or not at all.

    The evaluator's output must hold ``image`` as ``LoadPointFramed`` reads it, ``pred`` (3, H, W) in [0, 1] and, for
    labelled frames, ``label`` (K, 2), points ``(y, x)`` of the frame as it is stored, NaN where there is none. Where
    the picture has another size, its points are moved.

    Args:
        output_dir: a folder that is not there yet, or is empty.
    """

    def __init__(self, output_dir: str | os.PathLike) -> None:
        self.output_dir = Path(output_dir)
        self.part = self.output_dir.with_name(f".part-{self.output_dir.name}")
        self.frames = 0

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator."""
        engine.add_event_handler(Events.STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _begin(self) -> None:
        if self.output_dir.exists() and (not self.output_dir.is_dir() or any(self.output_dir.iterdir())):
            raise OutputError(f"{self.output_dir} is there already and not an empty folder; choose another output_dir")
        shutil.rmtree(self.part, ignore_errors=True)  # of a killed run
        self.frames = 0

    def _add(self, engine: Engine) -> None:
        output: list[dict[str, Any]] = engine.state.output  # type: ignore[assignment]
        for sample in output:
            meta, picture, label = sample["image"].meta, sample["pred"].detach().float().cpu(), sample.get("label")
            video, _, number = frame_name(str(meta["filename_or_obj"])).rpartition("/")
            if video and label is not None:
                points = label.as_subclass(Tensor).cpu()
                scale = torch.tensor(picture.shape[1:]) / torch.tensor([int(n) for n in meta["frame_size"]])
                points = (points[~points.isnan().any(-1)] + 0.5) * scale - 0.5
                write_frame(self.part / video, number, picture, points)
            else:
                folder = self.part / video / "images" if video else self.part
                pixels = (picture.clamp(0, 1) * 255).round().to(torch.uint8).movedim(0, -1).numpy()
                with replacing(folder / f"{number}.png") as temporary:
                    Image.fromarray(pixels).save(temporary)
            self.frames += 1

    def _finish(self) -> None:
        if not self.frames:
            return
        try:
            if self.output_dir.exists():
                self.output_dir.rmdir()
            os.replace(self.part, self.output_dir)
        except OSError as error:
            raise OutputError(f"{self.output_dir} cannot be written: {error.strerror or error}") from error
