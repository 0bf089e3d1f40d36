"""Generated frames as files, each with its mask and a record of its style."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
import torch.nn.functional as F
from ignite.engine import Engine, Events
from PIL import Image
from torch import Tensor

from medsynth_ext.data.dicom_files import DICOM_SUFFIXES
from medsynth_ext.data.files import replacing, write_json
from medsynth_ext.data.scans import ScanDataset
from medsynth_ext.methods.ultrasound_style.frames import NIFTI_SUFFIXES, image_name, label_beside
from medsynth_ext.methods.ultrasound_style.inferer import StyleInferer

__all__ = ["StyledFrameWriter", "frame_levels", "save_grey"]


def frame_levels(
    frames: Tensor,  # (N, H, W) in [0, 1]
    size: Sequence[int],
) -> np.ndarray:  # (N, *size) uint8
    """Grey levels of frames at another size."""
    levels = frames.as_subclass(Tensor).detach().cpu().float()[None]
    if list(levels.shape[2:]) != [int(n) for n in size]:
        levels = F.interpolate(levels, size=[int(n) for n in size], mode="bilinear", antialias=True)
    return (levels[0].clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def save_grey(path: Path, levels: np.ndarray, like: str | os.PathLike) -> None:  # (H, W) uint8
    """Write 8 bits in the format of the file ``like``; a NIfTI file keeps the place of that one in space."""
    with replacing(path) as temporary:
        if path.name.lower().endswith(NIFTI_SUFFIXES):
            source: Any = nib.load(like)
            values = levels.T.reshape(source.shape)
            nib.save(nib.Nifti1Image(values, source.affine), temporary)
        else:
            Image.fromarray(levels).save(temporary)


class StyledFrameWriter:
    """Writes what :class:`StyleInferer` made of every frame, in the frame's own size and format; for DICOM as PNG.

    For ``NAME.png`` with N outputs these are ``NAME_style0.png`` to ``NAME_styleN-1.png``, the mask (if there is one)
    under ``labels`` with the same names, byte for byte, and ``NAME_styles.json``: for every output its file, its mask
    and where its style is from. A strip ``NAME_strip.png`` shows the frame and all outputs side by side.

    Args:
        output_dir: where to write.
        inferer: tells the styles.
        dataset: tells which frames failed, for ``summary.json``.
        strip: whether to write the strip; ``None`` writes it for interpolations.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike,
        *,
        inferer: StyleInferer,
        dataset: ScanDataset,
        strip: bool | None = None,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.inferer = inferer
        self.dataset = dataset
        self.strip = inferer.mode == "interpolate" if strip is None else strip
        self.written = 0
        self.labelled = 0

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _add(self, engine: Engine) -> None:
        output: list[dict[str, Any]] = engine.state.output  # type: ignore[assignment]
        for sample in output:
            meta = sample["image"].meta
            path = Path(str(meta["filename_or_obj"]))
            levels = frame_levels(sample["pred"], meta["frame_size"])
            self._write(path, levels)
            if self.strip:
                self._strip(path, sample["image"], levels)

    def _write(self, path: Path, levels: np.ndarray) -> None:
        name, suffix = image_name(path)
        suffix = ".png" if suffix.lower() in DICOM_SUFFIXES else suffix  # what is made is not a patient's image
        label = label_beside(path)
        records = []
        for i, (frame, style) in enumerate(zip(levels, self.inferer.styles, strict=True)):
            made = f"{name}_style{i}"
            save_grey(self.output_dir / f"{made}{suffix}", frame, path)
            record: dict[str, Any] = {"file": f"{made}{suffix}", **style.origin, "label": None}
            if label is not None:
                copied = Path("labels") / f"{made}{image_name(label)[1]}"
                with replacing(self.output_dir / copied) as temporary:
                    shutil.copyfile(label, temporary)
                record["label"] = copied.as_posix()
                self.labelled += 1
            records.append(record)
        write_json(self.output_dir / f"{name}_styles.json", {"content": str(path), "outputs": records})
        self.written += len(records)

    def _strip(self, path: Path, image: Tensor, levels: np.ndarray) -> None:
        shown = F.interpolate(image.as_subclass(Tensor)[None].float().cpu(), size=levels.shape[1:], mode="bilinear")
        first = (shown[0, 0].clamp(0, 1) * 255).round().to(torch.uint8).numpy()
        with replacing(self.output_dir / f"{image_name(path)[0]}_strip.png") as temporary:
            Image.fromarray(np.concatenate([first, *levels], axis=1)).save(temporary)

    def _finish(self) -> None:
        failed = {str(path): sentence for path, sentence in self.dataset.failures}
        summary = {"frames": self.written, "labelled": self.labelled, "style_mode": self.inferer.mode, "failed": failed}
        write_json(self.output_dir / "summary.json", summary)
