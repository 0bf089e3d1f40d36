"""Generated patients as files, and a manifest from which each can be made again."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from tqdm.auto import tqdm

from medsynth_ext.bulk import Volume, on_grid
from medsynth_ext.data.files import check_writable, replacing
from medsynth_ext.data.nifti import nifti_image, save_nifti
from medsynth_ext.methods.fedsim.generation import GeneratedCase, HeartSimulator

__all__ = ["case_facts", "case_volumes", "file_hash", "generate_cases", "write_stl"]

logger = logging.getLogger(__name__)


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file, the first 16 digits."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


def generate_cases(
    simulator: HeartSimulator,
    output_dir: str | Path,
    *,
    count: int,
    weights: str | Path,
    seed: int = 0,
    first: int = 0,
    site: str = "A",
    save_parts: bool = True,
    save_mesh: bool = False,
) -> list[str]:
    """Write ``count`` labelled CT volumes, beginning with number ``first``; returns their names.

    Per case ``<id>_ct.nii.gz`` (int16 HU), ``<id>_label.nii.gz`` (uint8), ``<id>_material.nii.gz`` (float32, HU /
    1000), and where asked for ``<id>_parts.nii.gz`` (uint8) and ``<id>_mesh.stl`` (mm). ``manifest.json`` has seed,
    latent, shape parameters, site and the hash of the weights for each; cases of earlier runs stay in it.

    Args:
        simulator: trained.
        output_dir: where the files go.
        count: number of cases.
        weights: the simulator's file, for its hash.
        seed: case n is a function of (seed, n) and the weights.
        first: number of the first case, for shards.
        site: for the names and the manifest.
        save_parts: write the seven parts.
        save_mesh: write the surfaces.

    Raises:
        ValueError: when the manifest in the folder cannot be read.
    """
    folder = Path(output_dir)
    check_writable(folder)
    manifest = _read_manifest(folder / "manifest.json")
    digest = file_hash(weights)
    names = []
    for index in tqdm(range(first, first + count), desc="generating patients"):
        case = simulator.generate(index, seed=seed)
        name = f"{site}_{seed:04d}_{index:05d}"
        if not case.inside:
            logger.warning(f"{name} leaves the field of view after {case.attempts} draws; it is cut there")
        _write_case(folder, name, case, simulator, save_parts=save_parts, save_mesh=save_mesh)
        known = {"site": site, "seed": seed, "index": index, "checkpoint": digest, "blend": simulator.blend}
        manifest["cases"][name] = {**known, **case_facts(case)}
        with replacing(folder / "manifest.json") as temporary:
            temporary.write_text(json.dumps(manifest, indent=4) + "\n")
        names.append(name)
    return names


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {"cases": {}}
    try:
        manifest = json.loads(path.read_text())
        return {**manifest, "cases": dict(manifest["cases"])}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no manifest of generated cases ({error!r}); choose another folder") from error


def case_facts(case: GeneratedCase) -> dict[str, Any]:
    """What a manifest says of a patient beside its number."""
    return {
        "attempts": case.attempts,
        "inside_field_of_view": case.inside,
        "shape_parameters": _numbers(case.shape_parameters),
        "z": _numbers(case.z),
    }


def case_volumes(case: GeneratedCase, simulator: HeartSimulator, *, save_parts: bool = True) -> dict[str, Volume]:
    """What is written of a patient: ``ct`` in HU, ``label``, ``material`` (HU / 1000), and ``parts`` where wanted."""
    fov = simulator.model.shape_model.fov_mm
    values: dict[str, tuple[Tensor, type[np.generic]]] = {
        "ct": ((1000 * case.image[0]).round(), np.int16),
        "label": (case.parts[0] > 0, np.uint8),
        "material": (case.material[0], np.float32),
    }
    if save_parts:
        values["parts"] = (case.parts[0], np.uint8)
    return {name: Volume(on_grid(v, fov / len(v)), dtype) for name, (v, dtype) in values.items()}


def _numbers(values: Tensor) -> list[float]:
    return [float(f"{v:.7g}") for v in values.tolist()]


def _write_case(
    folder: Path, name: str, case: GeneratedCase, simulator: HeartSimulator, *, save_parts: bool, save_mesh: bool
) -> None:
    for kind, volume in case_volumes(case, simulator, save_parts=save_parts).items():
        save_nifti(nifti_image(volume.data, volume.dtype), folder / f"{name}_{kind}.nii.gz")
    if save_mesh:
        write_stl(folder / f"{name}_mesh.stl", case.vertices_mm, simulator.model.shape_model.faces.cpu())


def write_stl(path: str | Path, vertices_mm: Tensor, faces: Tensor) -> None:  # (V, 3), (F, 3)
    """Write triangles as binary STL."""
    corners = vertices_mm.float()[faces].numpy()  # (F, 3, 3)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    record = np.zeros(len(corners), dtype=[("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    record["normal"], record["corners"] = normal, corners
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(b"heart surfaces, mm".ljust(80) + np.uint32(len(corners)).tobytes() + record.tobytes())
