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
from medsynth_ext.data.landmark_files import Landmarks, write_landmark_table, write_landmarks, write_markups
from medsynth_ext.data.scans import ScanDataset
from medsynth_ext.methods.dag.pictures import draw_landmarks
from medsynth_ext.methods.dag.placing import to_original
from medsynth_ext.methods.dag.radiographs import radiograph_name, read_radiograph

__all__ = ["LandmarkTable", "SaveLandmarksd"]


class SaveLandmarksd(MapTransform):
    """Maps points back to the file's pixels and the world and writes ``NAME.json``, ``NAME.mrk.json`` and an overlay.

    The points' key then holds the :class:`medsynth_ext.data.Landmarks`.

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
            d[key] = self._write(d[key], d[self.image_key])
        return d

    def _write(self, points: torch.Tensor, image: Any) -> Landmarks:
        points = torch.as_tensor(points).as_subclass(torch.Tensor).detach().cpu().double()
        meta = image.meta
        path = Path(str(meta["filename_or_obj"]))
        index = to_original(points[:, :2], image).numpy()
        affine = torch.as_tensor(meta["original_affine"]).double().cpu()
        # A pixel of the network in pixels of the file; for pixels that are not square, along their longer side.
        ratio = float((torch.as_tensor(image.affine).double().cpu().diagonal()[:2] / affine.diagonal()[:2]).min())
        world = torch.as_tensor(meta["world"]).cpu().double().numpy()
        landmarks = Landmarks(
            names=self.names,
            index=index,
            spacing_mm=tuple(affine.diagonal()[:2].tolist()) if bool(meta["spacing_known"]) else None,
            world_mm=index @ world[:3, :2].T + world[:3, 3],
            spread=None if points.shape[1] == 2 else points[:, 2].numpy() * ratio,
            image=path.name,
            size=tuple(int(n) for n in meta["spatial_shape"]),
        )
        name = radiograph_name(path)
        write_landmarks(self.output_dir / f"{name}.json", landmarks)
        if self.markups:
            assert landmarks.world_mm is not None
            write_markups(self.output_dir / f"{name}.mrk.json", self.names, landmarks.world_mm)
        if self.overlay:
            picture = draw_landmarks(read_radiograph(path).pixels, index, spread=landmarks.spread)
            with replacing(self.output_dir / f"{name}_overlay.png") as temporary:
                picture.save(temporary, format="PNG")
        return landmarks


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
        self.cases += [(radiograph_name(sample["pred"].image), sample["pred"]) for sample in output]

    def write(self) -> None:
        """Write what is known so far."""
        write_landmark_table(self.output_dir / "landmarks.csv", self.cases)
        write_json(self.output_dir / "failed.json", {str(path): text for path, text in self.dataset.failures})
