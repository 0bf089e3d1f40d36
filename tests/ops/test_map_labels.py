"""map_labels: a look-up table per sample."""

from __future__ import annotations

import pytest
import torch

from medsynth_ext import ops
from medsynth_ext.ops import reference

LABEL_DTYPES = (torch.bool, torch.uint8, torch.int16, torch.int32, torch.int64)
TABLE_DTYPES = (torch.uint8, torch.int16, torch.int32, torch.int64, torch.float32, torch.float64)


def test_hand_worked_table():
    labels = torch.tensor([[0, 3, 1], [2, 2, 0]])
    table = torch.tensor([[5, 6, 7, 8], [-1, -2, -3, -4]])
    assert ops.map_labels(labels, table).tolist() == [[5, 8, 6], [-3, -3, -1]]


@pytest.mark.parametrize("label_dtype", LABEL_DTYPES)
@pytest.mark.parametrize("table_dtype", TABLE_DTYPES)
def test_equals_indexing_for_every_dtype(device, label_dtype, table_dtype):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (3, 1, 5, 7, 9), generator=generator).to(label_dtype).to(device)
    table = torch.randint(0, 100, (3, 2), generator=generator).to(table_dtype).to(device)
    want = torch.stack([t[lab.long()] for t, lab in zip(table, labels, strict=True)])
    got = ops.map_labels(labels, table)
    assert got.dtype == table_dtype
    assert torch.equal(got, want)


def test_equals_twin_on_large_non_contiguous_maps(device):
    labels = torch.randint(0, 54, (2, 41, 43, 37), dtype=torch.uint8).to(device).transpose(1, 3)
    table = torch.randint(-9, 9, (54,), dtype=torch.int32, device=device)
    out = torch.empty(labels.shape, dtype=torch.int32, device=device)
    unknown = reference.map_labels_out(labels, table[None], out)
    assert torch.equal(ops.map_labels(labels, table), out)
    assert unknown.tolist() == [-1, -1]


def test_result_does_not_depend_on_threads():
    labels = torch.randint(0, 200, (1, 300_001), dtype=torch.int16)
    table = torch.randperm(200)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = ops.map_labels(labels, table)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(one, ops.map_labels(labels, table))


def test_empty_batch_gives_empty_result(device):
    labels = torch.empty(0, 1, 4, 4, dtype=torch.uint8, device=device)
    assert ops.map_labels(labels, torch.arange(3, device=device)).shape == (0, 1, 4, 4)


def test_writes_into_out():
    labels = torch.randint(0, 3, (2, 8))
    out = torch.empty(2, 8, dtype=torch.int64)
    assert ops.map_labels(labels, torch.arange(3), out=out) is out
    assert torch.equal(out, labels)


@pytest.mark.parametrize("bad", [3, -1, 2**40])
def test_unknown_label_names_value_position_and_sample(device, bad):
    labels = torch.zeros(2, 30, 40, dtype=torch.int64, device=device)
    labels[1, 20, 7] = bad
    labels[1, 25, 0] = bad
    with pytest.raises(ValueError, match=rf"value {bad} at \(20, 7\) of sample 1.*entries for 0 to 2"):
        ops.map_labels(labels, torch.arange(3, device=device))


def test_unknown_label_reads_entry_zero_without_validation():
    assert ops.map_labels(torch.tensor([[7]]), torch.tensor([9, 8]), validate=False).tolist() == [[9]]


@pytest.mark.parametrize(
    ("labels", "table", "error", "message"),
    [
        (torch.zeros(2, 3), torch.arange(3), TypeError, "labels must be bool"),
        (torch.tensor(1), torch.arange(3), ValueError, "batch axis"),
        (torch.zeros(2, 3, dtype=torch.uint8), torch.zeros(3, 4), ValueError, r"table must be \(L,\) or \(2, L\)"),
        (torch.zeros(2, 3, dtype=torch.uint8), torch.zeros(0), ValueError, "L > 0"),
    ],
)
def test_bad_arguments_are_refused(labels, table, error, message):
    with pytest.raises(error, match=message):
        ops.map_labels(labels, table)


def test_bad_out_is_refused():
    labels = torch.zeros(2, 3, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"out must have shape \(2, 3\)"):
        ops.map_labels(labels, torch.arange(3), out=torch.empty(2, 4, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"out must be torch.int64"):
        ops.map_labels(labels, torch.arange(3), out=torch.empty(2, 3, dtype=torch.int32))


def test_operator_passes_opcheck():
    labels = torch.randint(0, 3, (2, 5), dtype=torch.uint8)
    out = torch.empty(2, 5, dtype=torch.int64)
    torch.library.opcheck(torch.ops.medsynth_ext.map_labels_out.default, (labels, torch.arange(3)[None], out))


def test_cpp_door_refuses_what_would_read_out_of_bounds():
    labels, out = torch.zeros(2, 5, dtype=torch.uint8), torch.empty(2, 4, dtype=torch.int64)
    with pytest.raises(RuntimeError, match="out must have shape"):
        torch.ops.medsynth_ext.map_labels_out(labels, torch.arange(3)[None], out)
    with pytest.raises(RuntimeError, match="table must be"):
        torch.ops.medsynth_ext.map_labels_out(labels, torch.arange(3), torch.empty(2, 5, dtype=torch.int64))
