"""The paper's networks: their sizes, their channels, and what they do with volumes of any size."""

from __future__ import annotations

import pytest
import torch

from medsynth_ext.methods.shape_consistent import ShortUNetGenerator, make_segmenter
from medsynth_ext.methods.shape_consistent.padding import cut_to, pad_to_multiple
from medsynth_ext.networks import PatchDiscriminator


def parameters(network: torch.nn.Module) -> float:
    """In millions."""
    return sum(p.numel() for p in network.parameters()) / 1e6


def test_generator_and_discriminator_have_the_papers_sizes() -> None:
    with torch.device("meta"):
        assert parameters(ShortUNetGenerator()) == pytest.approx(10.8, abs=0.05)
        judge = PatchDiscriminator(1, spatial_dims=3, padding=1, spectral=False)
        assert parameters(judge) == pytest.approx(11.0, abs=0.05)
        assert judge(torch.zeros(1, 1, 80, 128, 128))[-1].shape == (1, 1, 8, 14, 14)


def test_resolutions_and_channels_are_those_of_the_papers_table() -> None:
    network = ShortUNetGenerator(features=(4, 6, 8)).eval()
    seen: dict[str, tuple[int, ...]] = {}
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.Conv3d):
            module.register_forward_hook(lambda m, i, o, n=name: seen.update({n: (*o.shape[1:3], m.stride[0])}))
    network(torch.zeros(1, 1, 16, 16, 16))
    assert list(seen.values()) == [
        *[(4, 8, 2), (4, 8, 1), (6, 4, 2), (6, 4, 1), (8, 2, 2), (8, 2, 1)],
        *[(6, 4, 1), (6, 4, 1), (4, 8, 1), (4, 8, 1), (8, 16, 1), (1, 16, 1)],
    ]


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("kind", ["generator", "psp", "unet", "refine"])
def test_volumes_of_any_size_keep_it_and_the_script_computes_the_same(kind: str, dims: int) -> None:
    torch.manual_seed(0)
    if kind == "generator":
        network: torch.nn.Module = ShortUNetGenerator(features=(2, 4, 4), spatial_dims=dims)
    else:
        network = make_segmenter(kind, spatial_dims=dims, out_channels=3, features=[2, 4, 6])
    x = torch.rand(1, 1, 17, 18, 20)[..., 0] if dims == 2 else torch.rand(1, 1, 17, 18, 20)
    out = network.eval()(x)
    assert out.shape == (1, 1 if kind == "generator" else 3, *x.shape[2:])
    assert torch.isfinite(out).all()
    if kind == "generator":
        assert out.abs().max() <= 1
    assert torch.allclose(torch.jit.script(network)(x), out, atol=1e-5)


def test_refine_net_has_by_far_the_most_parameters() -> None:
    with torch.device("meta"):
        sizes = {kind: parameters(make_segmenter(kind)) for kind in ("psp", "unet", "refine")}
    assert sizes["refine"] > 2 * max(sizes["psp"], sizes["unet"])


def test_saving_memory_changes_nothing_else() -> None:
    x = torch.rand(1, 1, 16, 16, 16)
    gradients = []
    for save in (False, True):
        torch.manual_seed(0)
        network = ShortUNetGenerator(features=(2, 2, 2), save_memory=save).train()
        network(x).square().sum().backward()
        gradients.append([p.grad for p in network.parameters()])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*gradients, strict=True))


def test_padding_is_undone() -> None:
    x = torch.rand(1, 1, 5, 8, 9)
    padded = pad_to_multiple(x, 4, -1.0)
    assert padded.shape == (1, 1, 8, 8, 12)
    assert float(padded[0, 0, 5:].max()) == -1
    assert torch.equal(cut_to(padded, x), x)


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="kind must be one of psp, unet, refine, got 'vnet'"):
        make_segmenter("vnet")
    with pytest.raises(ValueError, match="upsampling must be one of nearest, transposed, got 'linear'"):
        ShortUNetGenerator(upsampling="linear")
    with pytest.raises(ValueError, match=r"features must be three numbers of channels, got \[4, 8\]"):
        ShortUNetGenerator(features=[4, 8])
