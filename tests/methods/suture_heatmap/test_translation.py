"""Translation of frames between the simulator and surgery: training, whole frames, labels carried along."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from bundle_workflows import run_workflow
from PIL import Image

from medsynth_ext.data.point_frames import find_point_frames, read_frame, read_points, write_frame
from medsynth_ext.methods.suture_heatmap.translation import CropPair, TranslationInferer

BUNDLE = Path(__file__).parents[3] / "bundles/adaptor_suture_heatmap_detection"
TINY: dict[str, Any] = {"size": [24, 32], "features": 4, "blocks": 1}


def write_domain(folder: Path, name: str, level: float, size: tuple[int, int] = (24, 32), frames: int = 3) -> Path:
    """Recordings of noise around a grey level with two points."""
    for recording in range(2):
        for number in range(frames):
            noise = torch.rand(3, *size, generator=torch.Generator().manual_seed(10 * recording + number))
            points = torch.tensor([[3.25, 4.5 + number], [size[0] - 1.0, 20.0]])
            write_frame(folder / name / f"{name}_{recording}" / "video", f"{number:06d}", level + 0.1 * noise, points)
    return folder / name


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Domains and the weights of a short training."""
    folder = tmp_path_factory.mktemp("translation")
    train(folder, write_domain(folder, "intraop", 0.2), write_domain(folder, "sim", 0.7))
    return folder


def train(folder: Path, intraop: Path, sim: Path, **options: Any) -> None:
    settings: dict[str, Any] = {
        **TINY,
        "crop": [24, 24],
        "discriminator_features": 4,
        "epochs": 4,
        "constant_epochs": 2,
        "samples_per_epoch": 4,
        "pool_size": 3,
        "learning_rate": 0.01,
    }
    where = {"output_dir": str(folder / "out"), "ckpt_dir": str(folder / "models")}
    options = {**settings, **where, "dataset_dir": str(intraop), "sim_dir": str(sim), **options}
    run_workflow(BUNDLE, "train_translation.json", kind=None, **options)


def translate(trained: Path, source: Path, target: Path, direction: str = "sim_to_intraop", **options: Any) -> None:
    weights = str(trained / "models" / f"translation_{direction}.pt")
    options = {**TINY, "dataset_dir": str(source), "output_dir": str(target), "weights": weights, **options}
    run_workflow(BUNDLE, "translate.json", kind=None, **options)


def test_training_writes_both_generators_losses_and_pictures(trained: Path) -> None:
    assert {p.name for p in (trained / "models").iterdir()} == {
        "translation_sim_to_intraop.pt",
        "translation_intraop_to_sim.pt",
    }
    with (trained / "out/loss.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 16
    assert {"adversarial_a", "cycle_b", "identity_a", "discriminator_b", "loss"} <= set(rows[0])
    cycle = [float(r["cycle_a"]) + float(r["cycle_b"]) for r in rows]
    assert sum(cycle[-4:]) < 0.7 * sum(cycle[:4])
    with Image.open(trained / "out/pictures/epoch=000004.png") as picture:
        assert picture.size == (4 * 24, 24)


def test_the_held_out_surgery_does_not_reach_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    intraop, sim = write_domain(tmp_path, "intraop", 0.2), write_domain(tmp_path, "sim", 0.7)
    for video in (intraop / "intraop_1/video").rglob("*.json"):
        video.write_text("no labels")  # reading them would fail
    for picture in (intraop / "intraop_1/video").rglob("*.png"):
        picture.write_bytes(b"no picture")
    train(tmp_path, intraop, sim, epochs=1, constant_epochs=1)


def test_whole_frames_are_translated_and_keep_their_labels(trained: Path, tmp_path: Path) -> None:
    translate(trained, trained / "sim", tmp_path / "new")
    before, after = find_point_frames(trained / "sim"), find_point_frames(tmp_path / "new")
    assert [item["surgery"] for item in after] == [item["surgery"] for item in before]
    assert len(after) == 6
    for old, new in zip(before, after, strict=True):
        assert torch.equal(read_points(old["points"]), read_points(new["points"]))
        assert read_frame(new["image"]).shape == (3, 24, 32)
        assert not torch.equal(read_frame(new["image"]), read_frame(old["image"]))
    assert not list(tmp_path.glob(".part-*"))


def test_points_move_with_a_change_of_size(trained: Path, tmp_path: Path) -> None:
    sim = write_domain(tmp_path, "sim", 0.7, size=(48, 64), frames=1)
    translate(trained, sim, tmp_path / "new", "intraop_to_sim")
    old, new = (read_points(find_point_frames(f)[0]["points"]) for f in (sim, tmp_path / "new"))
    assert torch.allclose((old + 0.5) / 2 - 0.5, new, atol=1e-3)


def test_unlabelled_pictures_are_translated_too(trained: Path, tmp_path: Path) -> None:
    picture = next((trained / "sim").rglob("*.png"))
    (tmp_path / "in").mkdir()
    (tmp_path / "in/still.png").write_bytes(picture.read_bytes())
    translate(trained, tmp_path / "in", tmp_path / "new")
    assert [p.name for p in (tmp_path / "new").rglob("*") if p.is_file()] == ["still.png"]


def translate_until_killed(trained: Path, target: Path) -> None:
    """Ends this process after the second frame of a recording."""
    import medsynth_ext.methods.suture_heatmap.translation_writer as writer

    real = writer.write_frame

    def killed(video: Path, name: str, *rest: Any) -> None:
        real(video, name, *rest)
        if name == "000001":
            os.kill(os.getpid(), signal.SIGKILL)

    writer.write_frame = killed
    translate(trained, trained / "sim", target)


def test_a_folder_is_there_whole_or_not_at_all(trained: Path, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("keep me")
    with pytest.raises(SystemExit, match="full is there already and not an empty folder; choose another output_dir"):
        translate(trained, trained / "sim", full)
    assert (full / "mine.txt").read_text() == "keep me"
    command = [sys.executable, __file__, str(trained), str(tmp_path / "new")]  # this file, as a program
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run(command, env=environment, timeout=300, check=False).returncode == -signal.SIGKILL
    assert not (tmp_path / "new").exists()
    translate(trained, trained / "sim", tmp_path / "new")
    assert len(find_point_frames(tmp_path / "new")) == 6
    assert {p.name for p in tmp_path.iterdir()} == {"full", "new"}


def test_bad_frames_and_weights_are_named(trained: Path, tmp_path: Path) -> None:
    sim = write_domain(tmp_path, "sim", 0.7, frames=2)
    next(sim.rglob("000000.png")).write_bytes(b"no picture")
    with pytest.raises(SystemExit, match=r"1 of 4 frames could not be translated:\n.*000000\.png cannot be read"):
        translate(trained, sim, tmp_path / "new")
    assert len(find_point_frames(tmp_path / "new")) == 3
    with pytest.raises(SystemExit, match="is for another network than ResnetGenerator"):
        translate(trained, sim, tmp_path / "other", features=8)
    with pytest.raises(SystemExit, match=r"missing\.pt does not exist"):
        translate(trained, sim, tmp_path / "other", weights=str(tmp_path / "missing.pt"))
    assert not (tmp_path / "other").exists()


def engine(iteration: int) -> Any:
    return SimpleNamespace(state=SimpleNamespace(iteration=iteration, device="cpu"))


def test_crops_are_functions_of_seed_and_iteration() -> None:
    frames = {"a": torch.rand(2, 3, 20, 30), "b": torch.rand(2, 3, 20, 30)}
    crop = CropPair([8, 12], seed=3)
    first, again, later = (crop(engine(i), frames) for i in (5, 5, 6))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], later[0])
    assert first[0].shape == first[1].shape == (2, 3, 8, 12)
    assert -1 <= first[0].min() < -0.5 < 0.5 < first[0].max() <= 1
    shifted = torch.nn.functional.unfold((2 * frames["a"][:1] - 1), (8, 12)).transpose(1, 2)
    gap = torch.cat([shifted - first[0][:1].flatten(), shifted - first[0][:1].flip(3).flatten()]).abs().amax(2)
    assert gap.min() < 1e-6  # a window of the frame, or its mirror image
    with pytest.raises(
        ValueError, match=r"frames must be at least \(24, 12\) \(rows, columns\) to crop, got \(20, 30\)"
    ):
        CropPair([24, 12])(engine(1), frames)


def test_the_inferer_speaks_of_frames_in_zero_to_one() -> None:
    frames = torch.rand(1, 3, 4, 4)
    assert torch.allclose(TranslationInferer()(frames, lambda x: x), frames, atol=1e-6)
    assert torch.equal(TranslationInferer()(frames, torch.ones_like), torch.ones_like(frames))


if __name__ == "__main__":
    translate_until_killed(Path(sys.argv[1]), Path(sys.argv[2]))
