"""A MONAI Label server of bundles, in a process of its own, and requests to it over HTTP."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Answer", "LabelServer"]

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Answer:
    """What came back."""

    status: int
    kind: str
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class LabelServer:
    """What ``examples/monai_label/serve.sh`` starts.

    Args:
        environment: folder that ``examples/monai_label/install.sh`` made.
        folder: where the app, the studies and all that the server writes lie.
        bundles: folders to serve.
    """

    def __init__(self, environment: Path, folder: Path, bundles: Iterable[Path]) -> None:
        self.environment = environment
        self.folder = folder
        self.bundles = list(bundles)
        self.studies = folder / "studies"
        self.temporary = folder / "tmp"
        self.log = folder / "server.log"
        for part in (self.studies, self.temporary):
            part.mkdir(parents=True)
        self.port = 0
        self.process: subprocess.Popen | None = None

    def model(self, name: str) -> Path:
        """The server's copy of a bundle."""
        return self.folder / "app/model" / name

    def start(self, *, patience_s: float = 600.0) -> None:
        """Start the server and wait until it answers."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),  # the tree's package, not the installed copy
            "TMPDIR": str(self.temporary),
            "MONAI_LABEL_SESSION_PATH": str(self.folder / "sessions"),
            "OMP_NUM_THREADS": "1",
        }
        script = ROOT / "examples/monai_label/serve.sh"
        command = ["sh", script, self.environment, self.folder, str(self.port), *self.bundles]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        until = time.monotonic() + patience_s
        while True:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < until, self.log.read_text()[-3000:]
            try:
                if self.get("/info/").status == 200:
                    return
            except OSError:
                time.sleep(0.5)

    def stop(self) -> None:
        """End the server with all that it started."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()

    def get(self, path: str) -> Answer:
        return self._ask(urllib.request.Request(self._url(path)))

    def infer(self, model: str, image: str = "", *, output: str, upload: Path | None = None, **params: Any) -> Answer:
        """Run a model on an image of the studies, or on an uploaded one."""
        query = urllib.parse.urlencode({"output": output} | ({"image": image} if image else {}))
        body, kind = multipart({"params": json.dumps({"device": "cpu", **params})}, upload)
        return self._ask(urllib.request.Request(self._url(f"/infer/{model}?{query}"), body, {"Content-Type": kind}))

    def train(self, model: str, *, wait: bool = True, **params: Any) -> Answer:
        """Train a model on the images of the studies that have labels; without ``wait``, in the background."""
        body = json.dumps({"device": "cpu", "multi_gpu": False, **params}).encode()
        url = self._url(f"/train/{model}" + ("?run_sync=true" if wait else ""))
        return self._ask(urllib.request.Request(url, body, {"Content-Type": "application/json"}))

    def trained(self, *, patience_s: float = 600.0) -> dict[str, Any]:
        """The last training that was started in the background, as the server reports it when it has ended."""
        until = time.monotonic() + patience_s
        while (task := self.get("/train/").json)["status"] in ("SUBMITTED", "RUNNING"):
            assert time.monotonic() < until, task
            time.sleep(0.5)
        return task

    def _url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def _ask(self, request: urllib.request.Request) -> Answer:
        try:
            with urllib.request.urlopen(request, timeout=600) as reply:
                return Answer(reply.status, reply.headers.get_content_type(), reply.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers.get_content_type(), error.read())


def multipart(fields: dict[str, str], upload: Path | None) -> tuple[bytes, str]:
    """Body and content type of a form."""
    border = uuid.uuid4().hex
    head = f"--{border}\r\nContent-Disposition: form-data; name="
    parts = [f'{head}"{name}"\r\n\r\n{value}\r\n'.encode() for name, value in fields.items()]
    if upload is not None:
        start = f'{head}"file"; filename="{upload.name}"\r\nContent-Type: application/octet-stream\r\n\r\n'
        parts += [start.encode(), upload.read_bytes(), b"\r\n"]
    return b"".join([*parts, f"--{border}--\r\n".encode()]), f"multipart/form-data; boundary={border}"
