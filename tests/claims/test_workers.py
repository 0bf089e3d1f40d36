"""What the workers of a study do when a process is gone."""

from __future__ import annotations

from multiprocessing import Pipe

import pytest

from medsynth_ext.claims.workers import _receive


@pytest.mark.parametrize("unread", [False, True])
def test_a_dead_process_is_named_whether_or_not_it_left_something_unread(unread):
    ours, theirs = Pipe()
    if unread:
        ours.send("a task that is never read")
    theirs.close()
    with pytest.raises(RuntimeError, match="the process that ran bad seed 1 died"):
        _receive(ours, "bad seed 1")
