"""A federation as an NVIDIA FLARE job: ``python -m medsynth_ext.engines.federated.job``.

It merges config files, as ``python -m monai.bundle run`` does, into one that travels with the job, together with the
files that ``federation#files`` names. The job runs in FLARE's simulator on this machine (every site in processes of its
own), or is exported (``--export --export-dir DIR``) to be submitted to a real federation as it is; all a site needs is
this package and its data.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from nvflare.collab import CollabRecipe
from nvflare.recipe import SimEnv, set_per_site_config

from medsynth_ext.engines.federated.flare import CONFIG_NAME, FlareServer, FlareSite

__all__ = ["SITE_FOLDER", "main", "make_recipe"]

SITE_FOLDER = "federation"  # in the folder of a site's data


def make_recipe(
    config: Mapping[str, Any],
    sites: Mapping[str, str],
    *,
    output_dir: str,
    work: Path,
    name: str = "federation",
    timeout_s: float = 600.0,
) -> CollabRecipe:
    """The job.

    Args:
        config: with ``federation#server``, ``federation#site``, ``federation#begin`` and ``federation#files``.
        sites: name of a FLARE client to the folder of its data, as it is called there; it keeps its state in the
            ``SITE_FOLDER`` of that.
        output_dir: folder of the server's results, as it is called there.
        work: folder for the job's files, needed until the job was exported or run.
        name: of the job.
        timeout_s: how long one answer of a site may take, and how long all sites may take to start.

    Raises:
        FileNotFoundError: for a file of ``federation#files`` that is not there.
    """
    parser = ConfigParser(dict(config))
    shipped = {key: Path(parser.get_parsed_content(key)) for key in config["federation"]["files"]}
    for key, path in shipped.items():
        if not path.is_file():
            raise FileNotFoundError(f"{path}, which {key} names, does not exist")
    files = {key: path.name for key, path in shipped.items()}
    travelling = {**config, "federation": {**config["federation"], "files": files}}
    merged = work / CONFIG_NAME
    merged.write_text(json.dumps(travelling, indent=4) + "\n", encoding="utf-8")
    recipe = CollabRecipe(
        job_name=name,
        server=FlareServer(output_dir=output_dir, timeout_s=timeout_s),
        client=FlareSite(),
        min_clients=len(sites),
        sync_task_timeout=timeout_s,
    )
    folders = {site: {"dataset_dir": folder, "output_dir": f"{folder}/{SITE_FOLDER}"} for site, folder in sites.items()}
    set_per_site_config(recipe, folders)
    for path in (merged, *shipped.values()):
        recipe.add_server_file(str(path))
        recipe.add_client_file(str(path))
    return recipe


def main(arguments: Sequence[str] | None = None) -> None:
    """Run or export the job."""
    options = _options(arguments)
    parser = ConfigParser(ConfigParser.load_config_files(options.config_file))
    parser.update({"bundle_root": os.path.abspath(options.bundle_root), **dict(options.set)})
    config = parser.get()
    sites = {site: os.path.abspath(folder) for site, folder in options.site}
    output = os.path.abspath(options.output_dir)
    with tempfile.TemporaryDirectory() as work:
        recipe = make_recipe(config, sites, output_dir=output, work=Path(work), timeout_s=options.timeout_s)
        report = Path(output) / "federation.json"
        try:
            # With --export, which FLARE takes from the command line itself, this writes the job and ends the program.
            recipe.execute(SimEnv(clients=list(sites), workspace_root=str(Path(output) / "flare")))
        except RuntimeError as error:
            stopped = json.loads(report.read_text())["stopped"] if report.is_file() else ""
            raise SystemExit(f"the federation stopped: {stopped or error}") from error
    print(f"results are in {output}; {report.name} says what happened, sent.json of every site what left it")


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name or not value:
        raise argparse.ArgumentTypeError(f"NAME=VALUE was wanted, got {text!r}")
    return name, value


def _setting(text: str) -> tuple[str, Any]:
    name, value = _pair(text)
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config_file", nargs="+", required=True, help="configs; later ones replace entries")
    parser.add_argument("--bundle_root", default=".", help="the bundle's folder")
    parser.add_argument("--site", action="append", type=_pair, required=True, help="NAME=FOLDER of a site's data")
    parser.add_argument("--output_dir", required=True, help="folder of the server's results")
    parser.add_argument("--set", action="append", type=_setting, default=[], help="ID=VALUE of the config, as JSON")
    parser.add_argument(
        "--timeout_s", type=float, default=600.0, help="how long an answer, or the start, of a site may take"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
