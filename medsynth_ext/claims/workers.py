"""Runs tasks in worker processes of one thread each and hears how far they are.

Networks as small as those of claims gain little from a second thread, and on a busy machine threads that wait for each
other lose most of the time; processes beside each other do not wait.
"""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

import torch

__all__ = ["Task", "run_tasks"]


class Task(NamedTuple):
    """A call that a worker makes: ``function(*arguments, progress=...)``; everything must be picklable."""

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()


# The other end of a pipe is gone; the last where it went with something unread.
_GONE = (EOFError, BrokenPipeError, ConnectionResetError)

Report = Callable[[str, float, str], None]
Finished = Callable[[int, Any], None]


def run_tasks(tasks: Sequence[Task], *, workers: int, report: Report, finished: Finished) -> None:
    """Run the tasks, at most ``workers`` at a time; with one worker in this process.

    Args:
        tasks: the work, begun in this order.
        workers: number of processes.
        report: called with a task's name, its fraction and a text.
        finished: called with a task's place in the list and its result, in the order in which tasks end.

    Raises:
        RuntimeError: when a task fails or its process dies; the other processes are stopped.
    """
    if workers <= 1 or len(tasks) <= 1:
        for place, task in enumerate(tasks):

            def tell(fraction: float, text: str = "", name: str = task.name) -> None:
                report(name, fraction, text)

            finished(place, task.function(*task.arguments, progress=tell))
        return
    context = multiprocessing.get_context("spawn")
    waiting = list(enumerate(tasks))
    busy: dict[Connection, tuple[int, Any]] = {}
    try:
        for _ in range(min(workers, len(tasks))):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            place, task = waiting.pop(0)
            ours.send(task)
            busy[ours] = (place, process)
        while busy:
            for connection in wait(list(busy)):
                assert isinstance(connection, Connection)
                place, process = busy[connection]
                kind, *content = _receive(connection, tasks[place].name)
                if kind == "progress":
                    report(tasks[place].name, *content)
                    continue
                if kind == "error":
                    raise RuntimeError(f"{tasks[place].name} failed:\n{content[0]}")
                finished(place, content[0])
                if waiting:
                    place, task = waiting.pop(0)
                    connection.send(task)
                    busy[connection] = (place, process)
                else:
                    connection.send(None)
                    del busy[connection]
                    process.join()
    finally:
        for _, process in busy.values():
            process.terminate()


def _receive(connection: Connection, name: str) -> Any:
    try:
        return connection.recv()
    except _GONE as error:
        raise RuntimeError(f"the process that ran {name} died (killed, or out of memory)") from error


def _serve(connection: Connection) -> None:
    """Take tasks until there are none, or until the process that gives them is gone."""
    torch.set_num_threads(1)

    def tell(fraction: float, text: str = "") -> None:
        connection.send(("progress", fraction, text))

    try:
        while (task := connection.recv()) is not None:
            try:
                answer = ("done", task.function(*task.arguments, progress=tell))
            except (BrokenPipeError, ConnectionResetError):
                return
            except Exception:
                answer = ("error", traceback.format_exc())
            connection.send(answer)
    except _GONE:
        return
