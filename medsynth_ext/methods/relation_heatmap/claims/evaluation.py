"""What is measured of a trained network."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medsynth_ext import ops
from medsynth_ext.claims import Progress
from medsynth_ext.methods.relation_heatmap.claims.frames import FrameSet
from medsynth_ext.methods.relation_heatmap.claims.rival import Rival
from medsynth_ext.methods.relation_heatmap.claims.settings import Settings
from medsynth_ext.methods.relation_heatmap.decoding import PeakDecoder
from medsynth_ext.methods.relation_heatmap.network import PointHeatmapNet
from medsynth_ext.methods.relation_heatmap.sweep import sweep_scores
from medsynth_ext.metrics import PointDetection
from medsynth_ext.ops import reference

__all__ = ["close_sensitivity", "evaluate", "evaluate_rival", "predict", "time_decoding"]

_STRIDE = 32
_SWEEP = [round(0.05 * i, 2) for i in range(1, 20)]


@torch.no_grad()
def predict(network: nn.Module, frames: FrameSet) -> Tensor:  # (N, 1, H, W)
    """Heatmaps of all frames, padded for the network and cut again."""
    network.eval()
    device = next(network.parameters()).device
    rows, columns = frames.images.shape[2:]
    parts = []
    for images in frames.images.split(8):
        x = F.pad(images.to(device).float() / 127.5 - 1, (0, -columns % _STRIDE, 0, -rows % _STRIDE))
        parts.append(network(x)[..., :rows, :columns].float().cpu())
    return torch.cat(parts)


def evaluate(
    network: PointHeatmapNet, tuning: FrameSet, test: FrameSet, known_sites: FrameSet, s: Settings
) -> dict[str, Any]:
    """Scores on the test frames under every rule, and under ``v2`` on frames of the training's sites.

    The threshold of ``score`` is chosen on the tuning frames.
    """
    candidates = PeakDecoder(rule="score", threshold=0.0)
    low, high = s.paper_bounds
    decoders: Mapping[str, PeakDecoder] = {
        "v1": PeakDecoder(rule="v1", threshold=s.threshold),
        "v2": PeakDecoder(network, rule="v2", threshold=s.threshold),
        "v2_paper": PeakDecoder(rule="v2", lower=low, upper=high, threshold=s.threshold),
    }
    found = [(p[:n], v[:n], t) for p, v, n, t in zip(*candidates(predict(network, tuning)), tuning.points, strict=True)]
    best = max(sweep_scores(found, _SWEEP, s.radius), key=lambda row: row["f1"])
    decoders = {**decoders, "score": PeakDecoder(rule="score", threshold=best["threshold"])}
    heatmaps = predict(network, test)
    return {
        "threshold": best["threshold"],
        "bounds": network.count_bounds.tolist(),
        "rules": {name: _scores(decoder(heatmaps)[0], test, s) for name, decoder in decoders.items()},
        "known_sites": _scores(decoders["v2"](predict(network, known_sites))[0], known_sites, s),
    }


def evaluate_rival(network: nn.Module, rival: Rival, test: FrameSet, s: Settings) -> dict[str, Any]:
    """Scores of the other method's detector on the test frames."""
    return _scores(rival.decoder(predict(network, test).sigmoid())[0], test, s)


def _scores(points: Tensor, frames: FrameSet, s: Settings) -> dict[str, Any]:
    points, labels = points.double(), frames.points.double()
    metric = PointDetection(s.radius)
    metric(points, labels)
    close = close_sensitivity(points, labels, radius=s.radius, close=s.close)
    return {**metric.scores(), "close_sensitivity": close}


def close_sensitivity(points: Tensor, labels: Tensor, *, radius: float, close: float) -> float | None:
    """Share of found labels among those that have another label within ``close``; ``None`` without such."""
    pair, _ = ops.match_points(labels, points, radius)
    distance = torch.cdist(labels.nan_to_num(1e9), labels.nan_to_num(1e9), compute_mode="donot_use_mm_for_euclid_dist")
    distance.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    chosen = (distance.amin(2) <= close) & ~labels.isnan().any(-1)
    return float((pair[chosen] >= 0).double().mean()) if chosen.any() else None


def time_decoding(s: Settings, progress: Progress) -> dict[str, Any]:
    """Decoding of random maps of many peaks by the kernel and by its twin, on one thread of the CPU."""
    generator = torch.Generator().manual_seed(0)
    size = s.speed_size
    points = torch.rand(s.speed_batch, 20, 2, generator=generator) * torch.tensor([size[0] - 1.0, size[1] - 1.0])
    maps = ops.render_point_map(points, torch.ones(s.speed_batch, 20, dtype=torch.bool), size, 5.0, window=24)
    maps = ops.gaussian_blur(maps + 0.03 * torch.randn(maps.shape, generator=generator), 1.0)
    options: dict[str, Any] = {"threshold": 1e-6, "radius": 0.0, "max_peaks": 30, "window": 1}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = []
        for _ in range(s.repeats + 1):
            started = time.perf_counter()
            found = ops.heatmap_peaks_nms(maps, **options)
            seconds.append(time.perf_counter() - started)
        progress(0.5, "the twin")
        started = time.perf_counter()
        twin = reference.heatmap_peaks_nms(
            maps, refine="none", exclude_border=0, spacing=[1.0, 1.0], sigma=0.0, ties="first", **options
        )
        twin_s = time.perf_counter() - started
    finally:
        torch.set_num_threads(threads)
    different = sum(int((~torch.isclose(a, b, equal_nan=True)).sum()) for a, b in zip(found, twin, strict=True))
    return {"kernel_s": statistics.median(seconds[1:]), "twin_s": twin_s, "different": different, "maps": s.speed_batch}
