"""The network, the decoding and the sampler."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from medsynth_ext import ops
from medsynth_ext.methods.relation_heatmap import PointHeatmapNet
from medsynth_ext.methods.relation_heatmap.decoding import PeakDecoder, count_bounds
from medsynth_ext.methods.relation_heatmap.preparation import INTRAOP, SIM
from medsynth_ext.methods.relation_heatmap.sampler import DomainSampler
from medsynth_ext.networks import HRNet


def small_network(out_channels: int = 1) -> PointHeatmapNet:
    torch.manual_seed(0)
    backbone = HRNet(3, width=2, stem_channels=4, modules=(1, 1, 1), blocks=(1, 1, 1, 1))
    return PointHeatmapNet(backbone, out_channels=out_channels)


def test_published_network_has_the_size_of_hrnetv2_w18_with_its_head() -> None:
    with torch.device("meta"):
        network = PointHeatmapNet(HRNet(width=18))
        assert network(torch.empty(1, 3, 288, 512)).shape == (1, 1, 288, 512)
    head = 270 * 270 + 2 * 270 + 270 + 1
    assert sum(p.numel() for p in network.parameters()) == 9_562_260 + head


def test_heatmaps_are_linear_and_of_the_frames_size() -> None:
    network = small_network(2).eval()
    heatmaps = network(torch.randn(2, 3, 64, 96))
    assert heatmaps.shape == (2, 2, 64, 96)
    assert heatmaps.min() < 0  # no sigmoid, no rectifier
    scripted = torch.jit.script(network)
    frame = torch.randn(1, 3, 32, 32)
    assert torch.allclose(scripted(frame), network(frame), atol=1e-6)


def test_a_point_is_found_where_its_quarter_size_map_has_it() -> None:
    # A Gaussian on the map of stride 4, whose pixel centres lie at 4 i + 1.5 of the frame.
    network = small_network().eval()
    fine = ops.render_point_map(torch.tensor([[[21.5, 41.5]]]), torch.tensor([[True]]), (64, 96), 5.0)
    coarse = fine[..., 1::4, 1::4] * 0.5 + fine[..., 2::4, 2::4] * 0.5
    network.head = torch.nn.Identity()
    points, _, _ = PeakDecoder(rule="score", refine="parabola")(network.heatmaps(coarse))
    assert torch.allclose(points[0, 0], torch.tensor([21.5, 41.5]), atol=0.1)


def test_count_bounds_travel_with_the_weights() -> None:
    network, other = small_network(), small_network()
    network.set_count_bounds(2, 3)
    other.load_state_dict(network.state_dict())
    decoder = PeakDecoder(other, threshold=0.5)
    assert decoder.bounds() == (2, 3)
    heatmap = torch.zeros(2, 1, 32, 32)
    heatmap[0, 0, 4, ::6] = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.55, 0.52])
    heatmap[1, 0, 4, ::12] = torch.tensor([0.9, 0.1, 0.05])
    points, scores, count = PeakDecoder(other, threshold=0.5, presmooth_sigma=0.0)(heatmap)
    assert count.tolist() == [3, 2]
    assert points[1, 0].tolist() == [4, 0]
    assert points[1, 2:].isnan().all()
    assert scores[0, :3].tolist() == pytest.approx([0.9, 0.8, 0.7])
    assert PeakDecoder(other, lower=0, threshold=0.5).bounds() == (0, 3)
    assert PeakDecoder(other, rule="v1").bounds() == (None, None)
    assert PeakDecoder(small_network()).bounds() == (0, 30)  # nothing was learnt yet: no bounds beyond topk
    with pytest.raises(ValueError, match="lower and upper must be in order"):
        network.set_count_bounds(4, 3)
    with pytest.raises(ValueError, match="rule 'v2' needs lower and upper"):
        PeakDecoder()


def test_paper_and_refined_decoding_of_a_rendered_map() -> None:
    points = torch.tensor([[[20.4, 30.3], [20.1, 44.2], [50.7, 80.9]]])
    heatmap = ops.render_point_map(points, torch.ones(1, 3, dtype=torch.bool), (64, 96), 3.0)
    options: dict[str, Any] = {"lower": 0, "upper": 10}
    paper, _, _ = PeakDecoder(presmooth_sigma=0.0, refine="none", **options)(heatmap)
    ours, _, _ = PeakDecoder(presmooth_sigma=0.0, refine="dark", **options)(heatmap)

    def errors(found: torch.Tensor) -> torch.Tensor:
        return torch.cdist(found[:, :3], points).amin(2)

    assert errors(paper).max() < 0.75
    assert errors(ours).max() < 0.05
    assert paper[0, :3].frac().abs().max() == 0


def test_bounds_are_percentiles_rounded_outwards() -> None:
    counts = list(range(1, 101))
    assert count_bounds(counts) == (5, 96)
    assert count_bounds([7]) == (7, 7)
    with pytest.raises(ValueError, match="at least one labelled frame of the target domain"):
        count_bounds([])
    with pytest.raises(ValueError, match="percentiles must be in order"):
        count_bounds([1], (95, 5))


def drawn(sampler: DomainSampler) -> list[int]:
    return list(sampler)


def test_every_batch_has_its_share_of_the_simulator_whatever_the_number_of_processes() -> None:
    domains = [SIM] * 5 + [INTRAOP] * 3
    data: Any = list(range(8))
    options: dict[str, Any] = {"samples_per_epoch": 24, "seed": 3}
    single = drawn(DomainSampler(data, domains, sim_share=0.5, batch_size=4, **options))
    for batch in (single[i : i + 4] for i in range(0, 24, 4)):
        assert sum(domains[i] == SIM for i in batch) == 2
    halves = [
        drawn(DomainSampler(data, domains, sim_share=0.5, batch_size=2, num_replicas=2, rank=rank, **options))
        for rank in (0, 1)
    ]
    together = [i for k in range(0, 12, 2) for half in halves for i in half[k : k + 2]]
    assert together == single
    assert set(single) == set(range(8))


def test_without_a_share_frames_come_in_proportion_and_with_none_of_one_domain_only() -> None:
    domains = [SIM] * 30 + [INTRAOP] * 10
    data: Any = list(range(40))
    plain = drawn(DomainSampler(data, domains, samples_per_epoch=4000, batch_size=4))
    assert sum(i < 30 for i in plain) / 4000 == pytest.approx(0.75, abs=0.03)
    surgery = drawn(DomainSampler(data, domains, sim_share=0.0, samples_per_epoch=40, batch_size=4))
    assert min(surgery) >= 30
    tenth = drawn(DomainSampler(data, domains, sim_share=0.1, samples_per_epoch=100, batch_size=10))
    assert sum(i < 30 for i in tenth) == 10


def test_a_domain_without_frames_is_named() -> None:
    sampler = DomainSampler([1, 2], [INTRAOP, INTRAOP], sim_share=0.5, samples_per_epoch=4, batch_size=2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"sim_share is 0\.5, but there is no frame of the domain sim"):
        list(DataLoader([1, 2], sampler=sampler))
    with pytest.raises(ValueError, match="sim_share must be in"):
        DomainSampler([1], [SIM], sim_share=math.inf, samples_per_epoch=1, batch_size=1)  # type: ignore[arg-type]
