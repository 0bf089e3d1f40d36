"""The federation over NVIDIA FLARE (its Collab API): the server's and the sites' objects of a job."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from nvflare.collab import collab

from medsynth_ext.engines.federated.process import SiteProcess, SiteProcessError
from medsynth_ext.engines.federated.worker import build

__all__ = ["CONFIG_NAME", "FlareServer", "FlareSite", "FlareSites"]

logger = logging.getLogger(__name__)

CONFIG_NAME = "federation.json"


class FlareSites:
    """The link of a ``FederatedServer`` to the clients of a running job.

    Args:
        timeout_s: how long one answer may take.
    """

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.sites: Sequence[str] = sorted(client.name for client in collab.clients)

    def ask(self, message: bytes, sites: Sequence[str]) -> dict[str, bytes | Exception]:
        """Every client's answer, or the error of its call."""
        results = collab.get_clients(list(sites))(timeout=self.timeout_s).answer(message=message)
        answers: dict[str, bytes | Exception] = {site: ConnectionError("the connection is lost") for site in sites}
        answers |= dict(results.failures)
        for site, answer in results:
            answers[site] = ConnectionError(answer) if isinstance(answer, str) else answer
        return answers


class FlareServer:
    """Runs the federation on the server of a job.

    Args:
        output_dir: folder of the results.
        timeout_s: how long one answer of a site may take.
    """

    def __init__(self, output_dir: str = "federation", timeout_s: float = 600.0) -> None:
        self.output_dir, self.timeout_s = output_dir, timeout_s

    @collab.main
    def run(self) -> None:
        """Run the plan of the job's config."""
        config, files = _job_files()
        server = build(config, "server", {**files, "output_dir": self.output_dir})
        server.run(FlareSites(self.timeout_s), progress=lambda _, text: logger.info(text))


class FlareSite:
    """A site of a job: hands the server's messages to the site's own process.

    The site's values of the job (``set_per_site_config``) are ``dataset_dir`` and ``output_dir``, where its data are
    and where it keeps its state.
    """

    def __init__(self) -> None:
        self.process: SiteProcess | None = None

    @collab.init
    def begin(self) -> None:
        """Start the site's process; it loads its data while the others get ready."""
        config, files = _job_files()
        folders = {name: collab.get_app_prop(name) for name in ("dataset_dir", "output_dir")}
        settings = {**files, **folders, "site_name": collab.site_name}
        self.process = SiteProcess(collab.site_name, config, settings, log=Path(folders["output_dir"]) / "site.log")
        self.process.start()

    @collab.publish
    def answer(self, message: bytes) -> bytes | str:
        """The site's answer to a message of the server, or a text that says why there is none."""
        assert self.process is not None
        try:
            return self.process.ask(message)
        except SiteProcessError as error:
            logger.warning("%s", error)
            return str(error)

    @collab.final
    def end(self) -> None:
        """End the site's process."""
        if self.process is not None:
            self.process.close()


def _job_files() -> tuple[Path, dict[str, str]]:
    """The config that came with the job, and the places of the other files by their id in it."""
    folder = Path(collab.workspace.get_app_custom_dir(collab.fl_ctx.get_job_id()))
    config = _find(folder, CONFIG_NAME)
    names = json.loads(config.read_text(encoding="utf-8"))["federation"]["files"]
    return config, {key: str(_find(folder, name)) for key, name in names.items()}


def _find(folder: Path, name: str) -> Path:
    """The file of this name; FLARE keeps the folders of files that lay below the folder where the job was made."""
    for path in folder.rglob(name):
        return path
    raise FileNotFoundError(f"the job came without {name}: it is not below {folder}")
