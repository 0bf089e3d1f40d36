"""Random numbers: the known answers of Philox, the frozen layout, and the statistics of the conversions."""

from __future__ import annotations

import math

import pytest
import torch

from medsynth_ext import ops
from medsynth_ext._extension import has_operators, use_instruction_set
from medsynth_ext.ops import reference

needs_kernels = pytest.mark.skipif(not has_operators(), reason="operators are not built")

KNOWN = [
    ([0, 0, 0, 0], (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, (0xFFFFFFFF,) * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        (0xA4093822, 0x299F31D0),
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
@pytest.mark.parametrize("source", [ops, reference])
def test_philox_gives_the_published_answers(source, counter, key, words):
    assert source.philox_raw(torch.tensor([counter]), key)[0].tolist() == words


def test_layout_is_frozen(device):
    """Word by word from philox_raw: element v of a channel sits in block v >> 2 at place v & 3."""
    seed, stream, sample, channel = -(2**40) + 5, 3, 9, 1
    key = (seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF)
    words = ops.philox_raw(torch.tensor([[5, 0, sample, stream << 8 | channel]]), key)[0].tolist()
    x = ops.rand_int((2, 2, 27), seed, 2**32, sample_offset=8, stream=stream, device=device)
    assert x[1, channel, 20:24].tolist() == words
    z = ops.rand_normal((2, 2, 27), seed, sample_offset=8, stream=stream, device=device)[1, channel, 22].item()
    radius = math.sqrt(-2 * math.log(((words[2] >> 8) + 1) / 2**24))
    assert z == pytest.approx(radius * math.cos(2 * math.pi * (words[3] >> 8) / 2**24), abs=2e-6)


def test_golden_values_stay(device):
    z = ops.rand_normal((2, 1, 3, 5, 7), 42, device=device).cpu()
    assert z.flatten()[:4].tolist() == pytest.approx(GOLDEN_START, abs=4e-6)
    assert z.double().sum().item() == pytest.approx(GOLDEN_SUM, abs=2e-4)


GOLDEN_START = [-0.9701897, 0.194019, -1.23562, 1.9239271]
GOLDEN_SUM = 20.797207

CALLS = [("rand_normal", ()), ("rand_uniform", (-2.0, 5.0)), ("rand_int", (1000,))]


@pytest.mark.parametrize(("name", "args"), CALLS)
@pytest.mark.parametrize("shape", [(2, 3, 131), (1, 2, 5, 67), (3, 1, 3, 1, 70), (0, 1, 4), (1, 1, 0, 3), (1, 1, 1)])
@pytest.mark.parametrize("double", [False, True])
def test_kernel_equals_twin(device, name, args, shape, double):
    options = {} if name == "rand_int" else {"dtype": torch.float64 if double else torch.float32}
    got = getattr(ops, name)(shape, -5, *args, sample_offset=7, stream=4, device=device, **options).cpu()
    want = getattr(reference, name)(shape, -5, *args, sample_offset=7, stream=4, **options)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-13 if double else 4e-6)


@pytest.mark.parametrize("isa", ["base", "avx2", "avx512"])
@pytest.mark.parametrize("before", [331, 64, 5])
def test_block_numbers_carry_into_the_upper_half(device, isa, before):
    """Elements around v = 2**34, where the lower half of the block number starts again at 0."""
    first = 2**34 - before
    with use_instruction_set(isa):
        got = ops.rand_int((1, 1, 700), 3, 2**32, index_shape=(2**35,), index_origin=(first,), device=device).cpu()
    blocks = torch.arange(first // 4, (first + 700) // 4 + 1)
    counters = torch.stack([blocks & 0xFFFFFFFF, blocks >> 32, 0 * blocks, 0 * blocks], dim=1)
    words = reference.philox_raw(counters, (3, 0)).flatten()
    assert torch.equal(got[0, 0], words[first % 4 : first % 4 + 700])


@pytest.mark.parametrize(("name", "args"), CALLS)
def test_crop_and_batch_split_repeat_the_whole(device, name, args):
    draw = getattr(ops, name)
    whole = draw((3, 2, 9, 70, 41), 5, *args, device=device)
    crop = draw(
        (1, 2, 4, 66, 30), 5, *args, sample_offset=2, index_shape=(9, 70, 41), index_origin=(3, 1, 10), device=device
    )
    assert torch.equal(crop[0], whole[2, :, 3:7, 1:67, 10:40])


@needs_kernels
@pytest.mark.parametrize(("name", "args"), CALLS)
def test_bits_do_not_depend_on_threads_or_instruction_set(name, args):
    draw = getattr(ops, name)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 8):
            torch.set_num_threads(threads)
            for isa in ("base", "avx2", "avx512"):
                with use_instruction_set(isa):
                    results.append(draw((2, 1, 33, 400), 11, *args))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(r, results[0]) for r in results)


@pytest.mark.slow
def test_normals_have_the_moments_and_distribution_of_a_normal():
    n = 2**24
    z = ops.rand_normal((1, 1, n), 2024).flatten().double()
    assert abs(z.mean()) < 5 / math.sqrt(n)
    assert abs(z.var() - 1) < 5 * math.sqrt(2 / n)
    assert abs((z**3).mean()) < 5 * math.sqrt(15 / n)
    assert abs((z**4).mean() - 3) < 5 * math.sqrt(96 / n)
    assert z.abs().max() <= 5.78
    ordered = z[: 2**20].sort().values
    steps = (torch.arange(2**20) + 0.5) / 2**20
    distance = (torch.special.ndtr(ordered) - steps).abs().max()
    assert distance < 2.23 / math.sqrt(2**20)  # Kolmogorov-Smirnov, p = 1e-4


def test_neighbours_samples_streams_and_channels_are_independent():
    n = 2**20
    a = ops.rand_normal((2, 2, n), 3).double()
    b = ops.rand_normal((1, 1, n), 3, stream=1).double()[0, 0]
    pairs = [
        (a[0, 0, :-1], a[0, 0, 1:]),
        (a[0, 0, :-2], a[0, 0, 2:]),
        (a[0, 0], a[1, 0]),
        (a[0, 0], a[0, 1]),
        (a[0, 0], b),
    ]
    assert all(abs((x * y).mean()) < 5 / math.sqrt(n) for x, y in pairs)


def test_integers_are_uniform():
    counts = ops.rand_int((1, 1, 2**18), 1, 7).flatten().bincount(minlength=7).double()
    expected = 2**18 / 7
    assert ((counts - expected) ** 2 / expected).sum() < 33  # chi-square, 6 degrees, p about 1e-5


def test_out_is_written_and_returned(device):
    out = torch.empty(1, 1, 9, device=device)
    assert ops.rand_uniform((1, 1, 9), 1, out=out) is out
    assert torch.equal(out, ops.rand_uniform((1, 1, 9), 1, device=device))


def test_seed_from_torch_follows_the_global_generator():
    torch.manual_seed(3)
    first = [ops.seed_from_torch() for _ in range(2)]
    torch.manual_seed(3)
    assert first == [ops.seed_from_torch() for _ in range(2)]
    assert first[0] != first[1]


@needs_kernels
def test_operators_pass_opcheck():
    for name, head, dtype in (
        ("int", (10,), torch.int64),
        ("normal", (), torch.float32),
        ("uniform", (0.0, 1.0), torch.float64),
    ):
        op = getattr(torch.ops.medsynth_ext, f"rand_{name}_out").default
        torch.library.opcheck(op, (*head, 5, 0, 0, [9, 9], [1, 2], torch.empty(2, 1, 5, 6, dtype=dtype)))


def test_compiles_without_graph_break():
    def draw(x):
        return x + ops.rand_normal((1, 1, 64), 5)

    x = torch.ones(1, 1, 64)
    assert torch.equal(torch.compile(draw, fullgraph=True, backend="aot_eager")(x), draw(x))


def test_meta_device_gives_shapes():
    assert ops.rand_normal((2, 1, 4, 4), 0, device="meta").shape == (2, 1, 4, 4)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"seed": 2**63}, ValueError, "seed"),
        ({"sample_offset": -1}, ValueError, "sample_offset"),
        ({"sample_offset": 2**32 - 1}, ValueError, "sample_offset"),
        ({"stream": 2**24}, ValueError, "stream"),
        ({"shape": (1, 257, 2)}, ValueError, "channels"),
        ({"shape": (1, 2)}, ValueError, "shape"),
        ({"index_shape": (2,)}, ValueError, "index_shape"),
        ({"index_shape": (9,), "index_origin": (-1,)}, ValueError, "index_origin"),
        ({"index_origin": (1,)}, ValueError, "index_shape"),
        ({"dtype": torch.float16}, TypeError, "dtype"),
        ({"out": torch.empty(2, 1, 5)}, ValueError, "out"),
    ],
)
def test_bad_arguments_are_refused(options, error, message):
    arguments = {"shape": (2, 1, 4), "seed": 0} | options
    with pytest.raises(error, match=message):
        ops.rand_normal(**arguments)


def test_bad_ranges_are_refused():
    with pytest.raises(ValueError, match="low"):
        ops.rand_uniform((1, 1, 2), 0, 2.0, 1.0)
    with pytest.raises(ValueError, match="n must"):
        ops.rand_int((1, 1, 2), 0, 300, dtype=torch.uint8)
