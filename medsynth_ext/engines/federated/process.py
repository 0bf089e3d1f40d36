"""A site's training in a process of its own, which may die and is then started again."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from medsynth_ext.engines.federated.worker import READY

__all__ = ["ProcessSites", "SiteProcess", "SiteProcessError"]

logger = logging.getLogger(__name__)


class SiteProcessError(RuntimeError):
    """The site's process gives no answer at present; it is being started (again)."""


class SiteProcess:
    """Starts ``federated.worker`` and hands messages to it.

    A process that dies, whatever the cause, is started again at once. Until it has loaded its data, questions are
    refused after ``wait_s``, so that nobody else is held up. The process ends when this one does.

    Args:
        name: of the site.
        config: JSON file with ``federation#site``.
        settings: entries of the config to replace, by id.
        log: file for what the process prints.
        wait_s: how long a question waits for a process that is starting.
    """

    def __init__(
        self, name: str, config: str | Path, settings: Mapping[str, Any], *, log: str | Path, wait_s: float = 5.0
    ) -> None:
        self.name, self.config, self.settings = name, Path(config), dict(settings)
        self.log, self.wait_s = Path(log), wait_s
        self.lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None
        self.connection: Connection | None = None
        self.ready = False

    def start(self) -> None:
        """Start the process unless it runs."""
        if self.process is not None and self.process.poll() is None:
            return
        self._drop()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "medsynth_ext.engines.federated.worker", "--socket", str(theirs.fileno())]
        command += ["--config", str(self.config), "--settings", json.dumps(self.settings)]
        with theirs, self.log.open("ab") as log:
            self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdout=log, stderr=log)
        self.connection = Connection(ours.detach())
        self.ready = False
        self.log.with_suffix(".pid").write_text(f"{self.process.pid}\n")

    def ask(self, message: bytes) -> bytes:
        """The site's answer to a message.

        Raises:
            SiteProcessError: when the process is starting or has died.
        """
        with self.lock:
            if self.process is not None and self.process.poll() is not None:
                raise SiteProcessError(self._died())
            self.start()
            assert self.connection is not None
            try:
                if not self.ready:
                    self._await_ready(self.connection)
                self.connection.send_bytes(message)
                return self.connection.recv_bytes()
            except (EOFError, OSError) as error:
                raise SiteProcessError(self._died()) from error

    def _await_ready(self, connection: Connection) -> None:
        started = time.monotonic()
        if not connection.poll(self.wait_s):
            raise SiteProcessError(f"the process of site {self.name} is starting; its log is {self.log.name}")
        word = connection.recv_bytes()
        assert word == READY, f"a ready process was expected, it said {word[:20]!r}"
        self.ready = True
        logger.info("site %s was ready after %.1f s", self.name, time.monotonic() - started)

    def _died(self) -> str:
        assert self.process is not None
        try:
            code: int | None = self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        cause = f"signal {-code}" if code is not None and code < 0 else f"exit status {code}"
        self.start()
        return f"the process of site {self.name} died ({cause}) and is started again; its log is {self.log.name}"

    def close(self) -> None:
        """End the process."""
        with self.lock:
            self._drop()

    def _drop(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None
        if self.process is not None:
            try:
                self.process.wait(timeout=10 if self.ready else 0)  # once it serves, it leaves with its connection
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None


class ProcessSites:
    """The link of a ``FederatedServer`` to sites in processes of this machine, which all work at the same time.

    As a context it ends the processes when it is left.

    Args:
        processes: by the name of the site.
    """

    def __init__(self, processes: Mapping[str, SiteProcess]) -> None:
        self.processes = dict(processes)
        self.sites: Sequence[str] = tuple(self.processes)

    def __enter__(self) -> ProcessSites:
        for process in self.processes.values():
            process.start()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            process.close()

    def ask(self, message: bytes, sites: Sequence[str]) -> dict[str, bytes | Exception]:
        """Every site's answer, or the error of a process that is starting or has died."""

        def answer(site: str) -> bytes | Exception:
            try:
                return self.processes[site].ask(message)
            except SiteProcessError as error:
                return error

        with ThreadPoolExecutor(len(sites)) as pool:
            return dict(zip(sites, pool.map(answer, sites), strict=True))
