"""Video frames with labelled points, in the layout of the AdaptOR challenge.

``SURGERY/VIDEO/images/000000.png`` has its points in ``SURGERY/VIDEO/point_labels/000000.json``, as
``{"imageHeight": H, "imageWidth": W, "points": [{"x": ..., "y": ...}, ...]}``; integers are pixel centres and an empty
list is a frame without points. In memory points are index coordinates ``(y, x)``.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from medsynth_ext.data.files import replacing, write_json
from medsynth_ext.data.scans import ScanError

__all__ = [
    "FRAME_SUFFIXES",
    "FrameError",
    "find_frames",
    "find_point_frames",
    "frame_name",
    "labels_of",
    "points_to_json",
    "read_frame",
    "read_points",
    "split_by_surgery",
    "write_frame",
]

FRAME_SUFFIXES = (".png", ".jpg", ".jpeg")


class FrameError(ScanError):
    """A frame or its labels cannot be used; the message is one sentence: the file, what was wanted and what came."""


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def frame_name(path: str | os.PathLike) -> str:
    """``SURGERY/VIDEO/NUMBER`` of a frame in the challenge's layout, else the file's name without its ending.

    >>> frame_name("/data/aicm1/left/images/000012.png"), frame_name("/data/still.jpg")
    ('aicm1/left/000012', 'still')
    """
    path = Path(path)
    if path.parent.name == "images" and len(path.parts) >= 4:
        return "/".join([*path.parts[-4:-2], path.stem])
    return path.stem


def _images(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in FRAME_SUFFIXES and p.name[0] != ".")


def labels_of(image: str | os.PathLike) -> Path:
    """Where the labels of a frame lie in the challenge's layout, whether they are there or not."""
    image = Path(image)
    return image.parent.parent / "point_labels" / f"{image.stem}.json"


def find_frames(folder: str | os.PathLike) -> list[Path]:
    """The frames of a folder in order of name, in the challenge's layout or lying in it as plain files; or one file.

    Raises:
        FrameError: when the folder does not exist or holds no frame, or two frames share a name.
    """
    folder = Path(folder)
    if folder.is_file():
        if folder.suffix.lower() not in FRAME_SUFFIXES:
            raise FrameError(f"{folder} is not a frame: wanted a file that ends in {', '.join(FRAME_SUFFIXES)}")
        return [folder]
    if not folder.is_dir():
        raise FrameError(f"the folder of frames {folder} does not exist")
    files = _images(folder)
    for images in sorted(folder.glob("*/*/images")):
        files += _images(images)
    if not files:
        wanted = f"*/*/images/*{FRAME_SUFFIXES[0]} or plain files that end in {', '.join(FRAME_SUFFIXES)}"
        raise FrameError(f"no frame in {folder}: wanted {wanted}")
    seen: dict[str, Path] = {}
    for path in files:
        other = seen.setdefault(frame_name(path), path)
        if other is not path:
            raise FrameError(f"{other} and {path} would give results of the same name; rename one")
    return files


def find_point_frames(
    folder: str | os.PathLike, surgeries: Sequence[str] | None = None, **extra: Any
) -> list[dict[str, Any]]:
    """Labelled frames in the challenge's layout: ``[{"image": path, "points": path, "surgery": name}, ...]``.

    An empty list when nothing is there, so that a workflow can be built before the data are there.

    Args:
        folder: holds the surgeries.
        surgeries: names of those wanted; all by default.
        extra: goes into every item, ``domain=1`` for example.

    Raises:
        FrameError: for a frame without labels, labels without a frame, or a surgery that is not there.
    """
    folder = Path(folder)
    items: list[dict[str, Any]] = []
    for video in sorted(p.parent for p in folder.glob("*/*/images")):
        surgery = video.parent.name
        if surgeries is not None and surgery not in surgeries:
            continue
        images = _images(video / "images")
        labels = {p.stem for p in (video / "point_labels").glob("*.json")}
        for image in images:
            if image.stem not in labels:
                raise FrameError(f"{image} has no labels: wanted {labels_of(image)}")
        orphans = sorted(labels - {image.stem for image in images})
        if orphans:
            raise FrameError(f"{video / 'point_labels' / orphans[0]}.json has no frame in {video / 'images'}")
        items += [{"image": str(i), "points": str(labels_of(i)), "surgery": surgery, **extra} for i in images]
    missing = sorted(set(surgeries or ()) - {item["surgery"] for item in items})
    if missing:
        raise FrameError(f"no frame of surgery {missing[0]!r} in {folder}: wanted {missing[0]}/*/images/*.png")
    return items


def split_by_surgery(
    items: Sequence[Mapping[str, Any]], held_out: int | Sequence[str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Items of all surgeries but the held-out ones, and of these; frames of one surgery are never on both sides.

    Args:
        items: see :func:`find_point_frames`.
        held_out: names of surgeries, or how many: the last ones in order of name.

    Raises:
        FrameError: for a name that does not occur, or when nothing is left to train on; not without items.

    >>> items = [{"surgery": s} for s in "abc"]
    >>> split_by_surgery(items, 1)
    ([{'surgery': 'a'}, {'surgery': 'b'}], [{'surgery': 'c'}])
    """
    names = sorted({item["surgery"] for item in items})
    chosen = set(names[len(names) - held_out :] if isinstance(held_out, int) else held_out)
    if items and not chosen <= set(names):
        raise FrameError(f"held_out must name surgeries among {', '.join(names)}, got {sorted(chosen - set(names))[0]}")
    if items and (chosen == set(names) or (isinstance(held_out, int) and held_out > len(names))):
        raise FrameError(f"no surgery is left to train on: {len(names)} there, {held_out} held out")
    inside = [dict(item) for item in items if item["surgery"] not in chosen]
    return inside, [dict(item) for item in items if item["surgery"] in chosen]


def read_frame(path: str | os.PathLike) -> Tensor:  # (3, H, W) float32 in [0, 1]
    """Read a PNG or JPEG of 8 or 16 bits; grey becomes three equal channels, transparent pixels black.

    Raises:
        FrameError: when it cannot be read as such.
    """
    path = Path(path)
    try:
        with Image.open(path) as image:
            image.load()
            if image.mode.startswith("I"):  # one channel of 16 bits
                grey = np.asarray(image, dtype=np.float32) / 65535
                return torch.from_numpy(np.repeat(grey[None], 3, axis=0))
            if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
                rgba = np.asarray(image.convert("RGBA"), dtype=np.float32) / 255
                pixels = rgba[..., :3] * rgba[..., 3:]
            else:
                pixels = np.asarray(image.convert("RGB"), dtype=np.float32) / 255
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise FrameError(f"{path} cannot be read as a PNG or JPEG picture: {_one_line(error)}") from error
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(pixels, -1, 0)))


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise FrameError(f"{what} must be a finite number, got {value!r}")
    return float(value)


def read_points(path: str | os.PathLike, size: Sequence[int] | None = None) -> Tensor:  # (K, 2) float32 (y, x)
    """Read the points of a frame.

    Args:
        path: JSON file.
        size: rows and columns of the frame; the file's own by default.

    Raises:
        FrameError: for a file of another form, another size than the frame's, and points that are outside the frame
            (more than half a pixel beyond the outer pixels' centres) or there twice.
    """
    path = Path(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FrameError(f"{path} cannot be read as JSON labels: {_one_line(error)}") from error
    if not isinstance(value, dict) or not isinstance(value.get("points"), list):
        raise FrameError(f'{path} must hold {{"imageHeight": ..., "imageWidth": ..., "points": [...]}}')
    stated = [value.get("imageHeight"), value.get("imageWidth")]
    rows, columns = size if size is not None else [_number(v, f"{path}: the image's size") for v in stated]
    if None not in stated and [rows, columns] != stated:
        raise FrameError(f"{path} is for a frame of {stated[0]} x {stated[1]} (rows x columns), got {rows} x {columns}")
    points: list[tuple[float, float]] = []
    for number, entry in enumerate(value["points"]):
        what = f"{path}: point {number}"
        if not isinstance(entry, dict) or "x" not in entry or "y" not in entry:
            raise FrameError(f'{what} must be {{"x": ..., "y": ...}}, got {entry!r}')
        y, x = _number(entry["y"], what), _number(entry["x"], what)
        if not (-0.5 <= y <= rows - 0.5 and -0.5 <= x <= columns - 0.5):
            raise FrameError(f"{what} (x {x:g}, y {y:g}) is outside the frame of {columns:g} x {rows:g} (x, y)")
        if (y, x) in points:
            raise FrameError(f"{what} (x {x:g}, y {y:g}) is there twice")
        points.append((y, x))
    return torch.tensor(points, dtype=torch.float32).reshape(-1, 2)


def points_to_json(points: Tensor, size: Sequence[int], scores: Tensor | None = None) -> dict[str, Any]:
    """What the challenge's files hold, for points ``(K, 2)`` as ``(y, x)``, and ``scores`` ``(K,)`` beside them.

    >>> points_to_json(torch.tensor([[1.0, 2.5]]), (4, 8))
    {'imageHeight': 4, 'imageWidth': 8, 'points': [{'x': 2.5, 'y': 1.0}]}
    """
    value: dict[str, Any] = {
        "imageHeight": int(size[0]),
        "imageWidth": int(size[1]),
        "points": [{"x": round(x, 4), "y": round(y, 4)} for y, x in points.tolist()],
    }
    if scores is not None:
        value["scores"] = [round(s, 4) for s in scores.tolist()]
    return value


def write_frame(
    video: str | os.PathLike,
    name: str,
    image: Tensor,  # (3, H, W) in [0, 1]
    points: Tensor,  # (K, 2) as (y, x)
) -> None:
    """Write ``images/NAME.png`` and ``point_labels/NAME.json`` below the folder of a video, each whole or not at all.

    Raises:
        OutputError: when a file cannot be written.
    """
    video = Path(video)
    pixels = (image.detach().clamp(0, 1) * 255).round().to(torch.uint8).movedim(0, -1).cpu().numpy()
    with replacing(video / "images" / f"{name}.png") as temporary:
        Image.fromarray(pixels).save(temporary)
    write_json(video / "point_labels" / f"{name}.json", points_to_json(points, image.shape[1:]))
