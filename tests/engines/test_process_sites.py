from __future__ import annotations

import threading

from medsynth_ext.engines.federated import ProcessSites
from medsynth_ext.engines.federated.process import SiteProcessError


class Fake:
    """A process that answers once all have been asked, or one that has died."""

    def __init__(self, barrier: threading.Barrier, *, dead: bool = False) -> None:
        self.barrier, self.dead, self.running = barrier, dead, False

    def start(self) -> None:
        self.running = True

    def close(self) -> None:
        self.running = False

    def ask(self, message: bytes) -> bytes:
        self.barrier.wait(timeout=20)
        if self.dead:
            raise SiteProcessError("the process of site B died (signal 9)")
        return message + b"!"


def test_sites_work_at_the_same_time_and_a_dead_one_disturbs_no_other():
    barrier = threading.Barrier(3)  # breaks unless all three are asked before one has answered
    fakes = {name: Fake(barrier, dead=name == "B") for name in "ABC"}
    with ProcessSites(fakes) as sites:
        assert all(fake.running for fake in fakes.values())
        answers = sites.ask(b"go", ["A", "B", "C"])
    assert not any(fake.running for fake in fakes.values())
    assert list(answers) == ["A", "B", "C"]
    assert (answers["A"], answers["C"]) == (b"go!", b"go!")
    assert isinstance(answers["B"], SiteProcessError)
