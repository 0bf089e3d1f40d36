from __future__ import annotations

import logging
import random

import numpy as np
import pytest
import torch

from medsynth_ext.handlers import Checkpoint


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def run(training, folder, *, epochs=4, **options):
    training.trainer(Checkpoint(folder, training.objects, **options), epochs=epochs).run()
    return training


def same(a: dict, b: dict) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_a_training_in_two_parts_equals_one_in_one_part(tmp_path, make_training):
    whole = run(make_training(), tmp_path / "whole", epochs=4)
    first = run(make_training(), tmp_path / "parts", epochs=2)
    random.seed(99), np.random.seed(99), torch.manual_seed(99)  # another process has other random states
    second = make_training()
    torch.manual_seed(99)
    run(second, tmp_path / "parts", epochs=4)
    assert first.losses + second.losses == whole.losses
    assert len(second.losses) == 6
    assert same(second.network.state_dict(), whole.network.state_dict())
    assert same(second.ema.network.state_dict(), whole.ema.network.state_dict())
    assert second.scheduler.get_last_lr() == whole.scheduler.get_last_lr()


def test_only_the_newest_are_kept(tmp_path, make_training):
    run(make_training(), tmp_path, epochs=5, keep=2)
    assert names(tmp_path) == ["checkpoint_epoch=000004.pt", "checkpoint_epoch=000005.pt"]


@pytest.mark.parametrize("size", [0, 100, 0.5, 0.99])
def test_a_damaged_newest_checkpoint_is_skipped_with_a_warning(tmp_path, make_training, caplog, size):
    whole = run(make_training(), tmp_path / "whole", epochs=4)
    first = run(make_training(), tmp_path / "parts", epochs=3)
    newest = tmp_path / "parts/checkpoint_epoch=000003.pt"
    content = newest.read_bytes()
    newest.write_bytes(content[: int(size * len(content)) if size < 1 else size])
    with caplog.at_level(logging.WARNING):
        second = run(make_training(), tmp_path / "parts", epochs=4)
    assert "checkpoint_epoch=000003.pt is damaged" in caplog.text
    assert first.losses[:6] + second.losses == whole.losses


def test_random_states_go_on(tmp_path, make_training):
    run(make_training(), tmp_path, epochs=1)
    expected = random.random(), np.random.rand(), torch.rand(1).item()
    training = make_training()
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    trainer = training.trainer(Checkpoint(tmp_path, training.objects), epochs=1)
    trainer.run()  # nothing left to do: only loads
    assert training.losses == []
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected


def test_leftovers_of_a_killed_run_are_removed(tmp_path, make_training):
    (tmp_path / ".part-123-checkpoint_epoch=000001.pt").write_bytes(b"half")
    run(make_training(), tmp_path, epochs=1)
    assert names(tmp_path) == ["checkpoint_epoch=000001.pt"]


def test_a_finished_training_can_leave_nothing_so_that_the_next_starts_anew(tmp_path, make_training):
    first = run(make_training(), tmp_path, epochs=2, keep_final=False)
    assert names(tmp_path) == []
    assert run(make_training(), tmp_path, epochs=2, keep_final=False).losses == first.losses


def test_without_resume_an_old_checkpoint_is_refused(tmp_path, make_training):
    run(make_training(), tmp_path, epochs=1)
    with pytest.raises(FileExistsError, match="set resume to go on from it, or choose another folder"):
        run(make_training(), tmp_path, epochs=2, resume=False)


def test_a_checkpoint_of_another_network_is_refused(tmp_path, make_training):
    run(make_training(), tmp_path, epochs=1)
    with pytest.raises(ValueError, match=r"checkpoint_epoch=000001.pt does not fit 'network'"):
        run(make_training(width=5), tmp_path, epochs=2)


def test_a_checkpoint_with_other_objects_is_refused(tmp_path, make_training):
    run(make_training(), tmp_path, epochs=1)
    training = make_training()
    with pytest.raises(ValueError, match=r"holds \['ema', 'network', 'optimizer', 'scheduler'\], wanted \['network'\]"):
        training.trainer(Checkpoint(tmp_path, {"network": training.network})).run()


def test_another_epoch_length_is_refused(tmp_path, make_training):
    run(make_training(), tmp_path, epochs=1)
    training = make_training()
    trainer = training.trainer(Checkpoint(tmp_path, training.objects))
    trainer.state.epoch_length = 2
    with pytest.raises(ValueError, match="written with 3 iterations per epoch, now there are 2"):
        trainer.run()
