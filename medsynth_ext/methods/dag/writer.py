"""The results of an inference run as files."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.config import KeysCollection
from monai.transforms import MapTransform

from medsynth_ext.data.files import replacing, write_json
from medsynth_ext.data.landmark_files import write_landmarks
from medsynth_ext.data.landmark_tables import write_landmark_table
from medsynth_ext.data.landmarks import Landmarks
from medsynth_ext.data.markups import write_markups
from medsynth_ext.data.scans import ScanDataset
from medsynth_ext.methods.dag.pictures import draw_landmarks
from medsynth_ext.methods.dag.placing import to_original
from medsynth_ext.methods.dag.radiographs import radiograph_name, read_radiograph
from medsynth_ext.transforms.detection_boxes import landmark_answer

__all__ = ["LandmarkTable", "SaveLandmarksd"]


class SaveLandmarksd(MapTransform):
    """Maps points back to the file's pixels and the world and writes ``NAME.json``, ``NAME.mrk.json`` and an overlay.

    Adds ``landmarks``, the :class:`medsynth_ext.data.Landmarks`, and ``result``, ``{"landmarks", "markups"}`` as the
    two files have them: that is what MONAI Label answers with. The points themselves become pixels of the file.

    Args:
        keys: points (N, 2), or (N, 3) with the spread, in index coordinates of the image.
        names: of the landmarks.
        output_dir: where to write.
        image_key: the image that the network saw, with the meta data of ``LoadRadiographd``.
        markups: write the file for 3D Slicer.
        overlay: write ``NAME_overlay.png``.
    """

    def __init__(
        self,
        keys: KeysCollection,
        names: Sequence[str],
        output_dir: str | Path,
        *,
        image_key: Hashable = "image",
        markups: bool = True,
        overlay: bool = True,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.names = tuple(str(name) for name in names)
        self.output_dir = Path(output_dir)
        self.image_key = image_key
        self.markups = markups
        self.overlay = overlay

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            landmarks = self._carried(d[key], d[self.image_key])
            self._write(landmarks, Path(str(d[self.image_key].meta["filename_or_obj"])))
            d[key] = torch.from_numpy(landmarks.index)
            d["landmarks"] = landmarks
            d["result"] = landmark_answer(landmarks)
        return d

    def _carried(self, points: torch.Tensor, image: Any) -> Landmarks:
        """From the network's image to the file's pixels and the world."""
        points = torch.as_tensor(points).as_subclass(torch.Tensor).detach().cpu().double()
        meta = image.meta
        index = to_original(points[:, :2], image).numpy()
        affine = torch.as_tensor(meta["original_affine"]).double().cpu()
        # A pixel of the network in pixels of the file; for pixels that are not square, along their longer side.
        ratio = float((torch.as_tensor(image.affine).double().cpu().diagonal()[:2] / affine.diagonal()[:2]).min())
        world = torch.as_tensor(meta["world"]).cpu().double().numpy()
        return Landmarks(
            names=self.names,
            index=index,
            spacing_mm=tuple(affine.diagonal()[:2].tolist()) if bool(meta["spacing_known"]) else None,
            world_mm=index @ world[:3, :2].T + world[:3, 3],
            spread=None if points.shape[1] == 2 else points[:, 2].numpy() * ratio,
            image=Path(str(meta["filename_or_obj"])).name,
            size=tuple(int(n) for n in meta["spatial_shape"]),
        )

    def _write(self, landmarks: Landmarks, path: Path) -> None:
        name = radiograph_name(path)
        assert landmarks.world_mm is not None
        write_landmarks(self.output_dir / f"{name}.json", landmarks)
        if self.markups:
            write_markups(self.output_dir / f"{name}.mrk.json", self.names, landmarks.world_mm)
        if self.overlay:
            picture = draw_landmarks(read_radiograph(path).pixels, landmarks.index, spread=landmarks.spread)
            with replacing(self.output_dir / f"{name}_overlay.png") as temporary:
                picture.save(temporary, format="PNG")


class LandmarkTable:
    """Writes ``landmarks.csv`` with the points of all images, and ``failed.json`` with those that could not be used.

    Args:
        output_dir: where the files are.
        dataset: tells which images failed.
    """

    def __init__(self, output_dir: str | Path, *, dataset: ScanDataset) -> None:
        self.output_dir = Path(output_dir)
        self.dataset = dataset
        self.cases: list[tuple[str, Landmarks]] = []

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator whose post-processing ends with :class:`SaveLandmarksd`."""
        engine.add_event_handler(Events.STARTED, self.cases.clear)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def _add(self, engine: Engine) -> None:
        output: list[dict[str, Any]] = engine.state.output  # type: ignore[assignment]
        self.cases += [(radiograph_name(sample["landmarks"].image), sample["landmarks"]) for sample in output]

    def write(self) -> None:
        """Write what is known so far."""
        write_landmark_table(self.output_dir / "landmarks.csv", self.cases)
        write_json(self.output_dir / "failed.json", {str(path): text for path, text in self.dataset.failures})
