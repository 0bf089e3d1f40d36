"""What a run leaves behind: landmarks in world coordinates, the joint probability, the aligned patch."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.transforms import Transform

from medsynth_ext.data.files import check_writable, replacing, write_json
from medsynth_ext.data.landmark_files import write_landmarks
from medsynth_ext.data.landmark_tables import write_landmark_table
from medsynth_ext.data.landmarks import Landmarks
from medsynth_ext.data.markups import write_markups
from medsynth_ext.data.scans import ScanDataset, scan_name
from medsynth_ext.methods.oneshot.cubes import sample_cube
from medsynth_ext.methods.oneshot.inferer import FLAGS, OneShotInferer
from medsynth_ext.methods.oneshot.views import JOINT_THRESHOLD
from medsynth_ext.transforms._landmark_space import voxels_to_world

__all__ = ["LandmarkTable", "LandmarksToWorld", "WithTruth", "WriteLandmarks"]


class LandmarksToWorld(Transform):
    """Adds ``world`` (N, 3), millimetres RAS, to the item; ``pred`` is what the inferer gave.

    Args:
        landmarks: which of the inferer's results to take.
    """

    def __init__(self, landmarks: str = "landmarks") -> None:
        self.landmarks = landmarks

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        result["world"] = voxels_to_world(data["pred"][self.landmarks].cpu(), data["image"], "image")
        return result


class WithTruth(Transform):
    """Adds what is compared: ``found`` and ``outline`` (1, S, S, S), where the views agree and the label, in one cube;
    and ``truth`` (N, 3), the true landmarks beside ``world``.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        pred = data["pred"]
        probability, centre = pred["probability"].cpu(), pred["cube_centre"].cpu()
        label = (torch.as_tensor(data["label"]).as_subclass(torch.Tensor).cpu() > 0.5).to(torch.uint8)
        eye = torch.eye(3, dtype=torch.float64)
        outline = sample_cube(label[None], centre, eye, probability.shape[-1], mode="nearest")[0]
        return {
            **data,
            "found": (probability > JOINT_THRESHOLD).float(),
            "outline": outline.float(),
            "truth": data["landmarks"],
        }


class WriteLandmarks(Transform):
    """Writes ``NAME.landmarks.json``, ``NAME.mrk.json`` and, if wanted, two NIfTI files for an item.

    The index coordinates in the JSON are those of the file as it lies on disk, in the order of its axes.

    Args:
        output_dir: where to write.
        inferer: whose landmarks they are.
        volumes: also write the joint probability and the aligned patch.
    """

    def __init__(self, output_dir: str | os.PathLike, inferer: OneShotInferer, *, volumes: bool = True) -> None:
        self.output_dir = Path(output_dir)
        self.inferer = inferer
        self.volumes = volumes

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        image, pred = data["image"], data["pred"]
        if not isinstance(image, MetaTensor):
            raise TypeError(f"image must be a MetaTensor, got {type(image).__name__}")
        path = str(image.meta["filename_or_obj"])
        name = scan_name(path)
        points = self._landmarks(data, path)
        write_landmarks(self.output_dir / f"{name}.landmarks.json", points)
        assert points.world_mm is not None
        write_markups(self.output_dir / f"{name}.mrk.json", points.names, points.world_mm)
        if self.volumes:
            affine = torch.as_tensor(image.affine).double().cpu()
            eye = torch.eye(3, dtype=torch.float64)
            self._volume(f"{name}_probability", pred["probability"][0], affine, eye, pred["cube_centre"])
            self._volume(f"{name}_patch", pred["patch"][0], affine, pred["alignment"][:, :3], pred["alignment"][:, 3])
        return {**data, "record": points}

    def _landmarks(self, data: Mapping[Hashable, Any], path: str) -> Landmarks:
        image, pred, world = data["image"], data["pred"], data["world"].numpy()
        original = np.asarray(torch.as_tensor(image.meta["original_affine"]), dtype=np.float64)
        inverse = np.linalg.inv(original)
        mass, iterations, converged, restarts, degrees, jacobian = pred["figures"].tolist()
        correlation = dict(zip(("centred", "turned", "rigid", "deformed"), pred["correlation"].tolist(), strict=True))
        centre = voxels_to_world(pred["centre"][None].cpu(), image, "image")[0].tolist()
        notes = {
            "flags": [flag for flag, on in zip(FLAGS, pred["flags"].tolist(), strict=True) if on],
            "centre_world_mm": [round(v, 4) if np.isfinite(v) else None for v in centre],
            "mass_ratio": round(mass, 4),
            "iterations": int(iterations),
            "converged": bool(converged),
            "restarts": int(restarts),
            "rotation_deg": round(degrees, 2),
            "rotation": [[round(v, 6) for v in row] for row in pred["alignment"][:, :3].T.tolist()],
            "correlation": {key: round(value, 4) for key, value in correlation.items()},
            "least_jacobian": round(jacobian, 4),
        }
        return Landmarks(
            names=self.inferer.reference.names,
            index=world @ inverse[:3, :3].T + inverse[:3, 3],
            spacing_mm=tuple(np.linalg.norm(original[:3, :3], axis=0).tolist()),
            world_mm=world,
            image=Path(path).name,
            size=tuple(int(n) for n in np.asarray(image.meta["spatial_shape"]).tolist()[:3]),
            notes=notes,
        )

    def _volume(
        self, name: str, values: torch.Tensor, affine: torch.Tensor, linear: torch.Tensor, centre: torch.Tensor
    ) -> None:
        """A cube as NIfTI at its place in the world; nothing when it has none."""
        if not bool(centre.isfinite().all()):
            return
        placed = torch.eye(4, dtype=torch.float64)
        placed[:3, :3] = linear.cpu().double()
        placed[:3, 3] = centre.cpu().double() - placed[:3, :3].sum(1) * (values.shape[0] - 1) / 2
        with replacing(self.output_dir / f"{name}.nii.gz") as temporary:
            nib.save(nib.Nifti1Image(values.float().cpu().numpy(), (affine @ placed).numpy()), temporary)


class LandmarkTable:
    """Writes ``landmarks.csv`` and ``run.json`` (flags and failed scans) at the end of a run.

    Args:
        output_dir: where to write; looked at before the first scan.
        dataset: the scans.
    """

    def __init__(self, output_dir: str | os.PathLike, dataset: ScanDataset) -> None:
        self.output_dir = Path(output_dir)
        self.dataset = dataset
        self.cases: list[tuple[str, Landmarks]] = []

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _start(self) -> None:
        check_writable(self.output_dir)
        self.cases = []

    def _collect(self, engine: Engine) -> None:
        samples: Any = engine.state.output
        for sample in samples:
            points: Landmarks = sample["record"]
            self.cases.append((scan_name(str(points.image)), points))

    def _write(self) -> None:
        write_landmark_table(self.output_dir / "landmarks.csv", self.cases)
        flagged = {name: points.notes["flags"] for name, points in self.cases if points.notes["flags"]}
        failed = {str(path): sentence for path, sentence in self.dataset.failures}
        write_json(self.output_dir / "run.json", {"flagged": flagged, "failed": failed})
