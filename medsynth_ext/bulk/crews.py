"""Who makes the shards: this process, several of this machine, or Ray's workers.

Each function is a generator of the numbers of finished shards. A shard whose worker died is given out again, at most
``TRIES`` times in all; that it is not there twice is what :mod:`medsynth_ext.bulk.shards` sees to.
"""

from __future__ import annotations

import multiprocessing
import socket
from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any

from medsynth_ext.bulk.job import Job, JobError
from medsynth_ext.bulk.shards import make_shard, write_shard
from medsynth_ext.data.files import OutputError

__all__ = ["TRIES", "in_this_process", "over_processes", "over_ray"]

TRIES = 3
RAY = "ray>=2.55,<3"
KNOCK_S = 10.0  # how long a cluster may take to accept a connection
_GONE = (EOFError, BrokenPipeError, ConnectionResetError)


class _Queue:
    """Shards that wait, those that lost their worker among them again."""

    def __init__(self, shards: Sequence[int]) -> None:
        self.waiting = deque(shards)
        self.lost: Counter[int] = Counter()

    def give_back(self, shard: int, reason: str) -> None:
        """A worker died over it.

        Raises:
            JobError: when that was the last try.
        """
        self.lost[shard] += 1
        if self.lost[shard] == TRIES:
            raise JobError(f"shard {shard} was given up: {TRIES} workers died over it, the last one: {reason}")
        self.waiting.appendleft(shard)


def in_this_process(
    job: Job, shards: Sequence[int], *, made: Callable[[], Any] | None = None
) -> Generator[int, None, None]:
    """One after the other.

    Args:
        job: the run.
        shards: to make.
        made: called after every sample.
    """
    for shard in shards:
        write_shard(job, shard, made=made)
        yield shard


def over_processes(job: Job, shards: Sequence[int], *, workers: int) -> Generator[int, None, None]:
    """In processes of this machine, which leave when this one is gone.

    Args:
        job: the run.
        shards: to make.
        workers: number of processes.

    Raises:
        JobError: for a shard that several workers died over; or what a worker raised.
    """
    context = multiprocessing.get_context("spawn")
    queue = _Queue(shards)
    crew: dict[Connection, tuple[int, Any]] = {}

    def hire() -> None:
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, job.to_json()), daemon=True)
        process.start()
        theirs.close()
        give(ours, process)

    def give(connection: Connection, process: Any) -> None:
        shard = queue.waiting.popleft()
        crew[connection] = (shard, process)
        with suppress(*_GONE):  # its end is heard of below
            connection.send(shard)

    try:
        while queue.waiting or crew:
            while queue.waiting and len(crew) < workers:
                hire()
            for connection in wait(list(crew)):
                assert isinstance(connection, Connection)
                shard, process = crew.pop(connection)
                try:
                    error = connection.recv()
                except _GONE:
                    process.join()
                    queue.give_back(shard, f"a process ended with status {process.exitcode}")
                    continue
                if error is not None:
                    raise error
                yield shard
                if queue.waiting:
                    give(connection, process)
                else:
                    connection.close()
                    process.join()
    finally:
        for _, process in crew.values():
            process.terminate()


def _serve(connection: Connection, text: str) -> None:
    try:
        while True:
            shard = connection.recv()
            try:
                make_shard(text, shard)
            except (JobError, OutputError, ValueError) as error:
                connection.send(error)
            except Exception as error:  # of any class, which may not go through the pipe
                connection.send(RuntimeError(f"shard {shard} failed: {type(error).__name__}: {error}"))
            else:
                connection.send(None)
    except (*_GONE, KeyboardInterrupt):
        return


def _knock(address: str) -> None:
    """See at once whether anybody listens at ``HOST:PORT``; Ray itself goes on asking for minutes."""
    host, separator, port = address.rpartition("://")[2].rpartition(":")
    if separator and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_S).close()


def over_ray(
    job: Job, shards: Sequence[int], *, address: str, workers: int | None = None
) -> Generator[int, None, None]:
    """On the workers of a Ray cluster, all of which must see the output folder and have this package.

    Args:
        job: the run.
        shards: to make.
        address: of the cluster, as ``ray.init`` takes it; ``local`` to begin one on this machine.
        workers: shards at a time; as many as the cluster has cores for by default.

    Raises:
        JobError: without Ray, without a cluster there, or for a shard that several workers died over; or what a worker
            raised.
    """
    try:
        import ray
    except ImportError as error:
        raise JobError(f'--ray needs Ray, which is not installed: pip install "{RAY}"') from error
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address == "local":
        options |= {"num_cpus": workers * job.threads if workers else None, "include_dashboard": False}
    try:
        _knock(address)
        ray.init(address=address, **options)
    except Exception as error:  # Ray raises bare ones, for a node that is slow to start among others
        reason = str(error).splitlines()[0]
        raise JobError(f"there is no Ray cluster to be reached at {address!r} ({reason})") from error
    try:
        make = ray.remote(num_cpus=job.threads, max_retries=0)(make_shard)
        at_a_time = workers or max(1, int(ray.cluster_resources().get("CPU", 1)) // job.threads)
        queue = _Queue(shards)
        text = job.to_json()
        running: dict[Any, int] = {}
        while queue.waiting or running:
            while queue.waiting and len(running) < at_a_time:
                shard = queue.waiting.popleft()
                running[make.remote(text, shard)] = shard
            (done, *_), _ = ray.wait(list(running), num_returns=1)
            shard = running.pop(done)
            try:
                ray.get(done)
            except ray.exceptions.RayTaskError as error:
                raise getattr(error, "cause", None) or error from None
            except ray.exceptions.RayError as error:
                queue.give_back(shard, str(error).splitlines()[0])
            else:
                yield shard
    finally:
        ray.shutdown()
