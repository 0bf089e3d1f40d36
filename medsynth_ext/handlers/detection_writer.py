"""Found points as files: JSON in the form of the labels, pictures, and a table where there are labels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from PIL import Image, ImageDraw
from torch import Tensor

from medsynth_ext.data.files import replacing, write_json
from medsynth_ext.data.point_frames import frame_name, points_to_json, read_frame
from medsynth_ext.data.scans import ScanDataset
from medsynth_ext.metrics import PointDetection
from medsynth_ext.metrics.landmark_tables import detection_rows, write_rows, write_summary
from medsynth_ext.ops import match_points

__all__ = ["DetectionWriter", "draw_detections"]

_GREEN, _RED, _YELLOW = (40, 220, 60), (255, 40, 40), (255, 225, 0)


def draw_detections(
    image: Tensor,  # (3, H, W) in [0, 1]
    points: Tensor,  # (P, 2) as (y, x)
    labels: Tensor | None,  # (L, 2)
    *,
    radius: float,
    enlarge: int = 1,
) -> Image.Image:
    """Circles around points: green for found ones, red for wrong ones, yellow for missed ones.

    Without labels every point is green.

    Args:
        image: the frame.
        points: predictions.
        labels: true points, NaN where there is none.
        radius: largest distance of a match, and of the circles.
        enlarge: pixels of the picture to one of the frame.
    """
    pixels = (image.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8).movedim(0, -1).numpy()
    picture = Image.fromarray(np.repeat(np.repeat(pixels, enlarge, 0), enlarge, 1))
    pen = ImageDraw.Draw(picture)

    def circle(place: Tensor, colour: tuple[int, int, int]) -> None:
        y, x = ((place + 0.5) * enlarge - 0.5).tolist()
        r = radius * enlarge
        pen.ellipse([x - r, y - r, x + r, y + r], outline=colour, width=max(1, round(radius * enlarge / 5)))

    if labels is None:
        colours = [_GREEN] * len(points)
    else:
        labels = labels[~labels.isnan().any(-1)].to(points)
        pair = match_points(points[None], labels[None], radius)[0][0].tolist()
        colours = [_GREEN if j >= 0 else _RED for j in pair]
        for j in set(range(len(labels))) - set(pair):
            circle(labels[j], _YELLOW)
    for place, colour in zip(points, colours, strict=True):
        circle(place, colour)
    return picture


class DetectionWriter:
    """Writes what an evaluator with ``DecodePointsd`` found.

    For a frame ``NAME.png`` these are ``NAME.json`` (the labels' form and ``scores``) and ``NAME_overlay.png``; in the
    AdaptOR challenge's layout ``SURGERY/VIDEO/point_labels/NUMBER.json`` and ``SURGERY/VIDEO/overlays/NUMBER.png``. At
    the end come ``summary.json`` (counts, scores, frames that failed) and, where frames have labels, ``metrics.csv``
    with a row per labelled frame.

    Args:
        output_dir: where to write.
        dataset: tells which frames failed.
        radius: largest distance of a match in pixels of the frames; 6 at a width of 512 in the challenge.
        overlays: whether to write pictures.
        heatmaps: whether to write the network's map as well, as ``NAME_heatmap.png`` or ``heatmaps/NUMBER.png``.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike,
        *,
        dataset: ScanDataset,
        radius: float = 6.0,
        overlays: bool = True,
        heatmaps: bool = False,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.dataset = dataset
        self.radius = radius
        self.overlays = overlays
        self.heatmaps = heatmaps
        self.metric = PointDetection(radius)
        self.cases: list[str] = []
        self.frames = self.points = 0

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator."""
        engine.add_event_handler(Events.STARTED, self._reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _reset(self) -> None:
        self.metric.reset()
        self.cases = []
        self.frames = self.points = 0

    def _path(self, name: str, folder: str, suffix: str) -> Path:
        video, _, number = name.rpartition("/")
        if video:
            return self.output_dir / video / folder / f"{number}{suffix}"
        extra = "" if suffix == ".json" else f"_{folder.removesuffix('s')}"
        return self.output_dir / f"{name}{extra}{suffix}"

    def _add(self, engine: Engine) -> None:
        output: list[dict[str, Any]] = engine.state.output  # type: ignore[assignment]
        for sample in output:
            path = str(sample["image"].meta["filename_or_obj"])
            name, frame = frame_name(path), read_frame(path)
            points, labels = sample["pred_points"], sample.get("label")
            write_json(
                self._path(name, "point_labels", ".json"),
                points_to_json(points, frame.shape[1:], sample["pred_scores"]),
            )
            if self.overlays:
                self._picture(name, "overlays", draw_detections(frame, points, labels, radius=self.radius))
            if self.heatmaps:
                levels = torch.as_tensor(sample["pred"])[0].detach().float().clamp(0, 1) * 255
                self._picture(name, "heatmaps", Image.fromarray(levels.round().to(torch.uint8).cpu().numpy()))
            if labels is not None:
                self.metric(points[None], labels.as_subclass(torch.Tensor)[None].to(points))
                self.cases.append(name)
            self.frames += 1
            self.points += len(points)

    def _picture(self, name: str, folder: str, picture: Image.Image) -> None:
        with replacing(self._path(name, folder, ".png")) as temporary:
            picture.save(temporary)

    def _finish(self) -> None:
        summary: dict[str, Any] = {"frames": self.frames, "points": self.points, "labelled_frames": len(self.cases)}
        if self.cases:
            summary |= self.metric.scores()
            write_rows(self.output_dir / "metrics.csv", detection_rows(self.metric, self.cases))
        summary["failed"] = {str(path): sentence for path, sentence in self.dataset.failures}
        write_summary(self.output_dir / "summary.json", summary)
