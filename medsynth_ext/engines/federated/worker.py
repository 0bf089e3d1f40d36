"""The process in which a site trains: ``python -m medsynth_ext.engines.federated.worker``, run by ``SiteProcess``."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

__all__ = ["build", "main", "serve"]

READY = b"ready"


def build(config: str | Path, part: str, settings: Mapping[str, Any]) -> Any:
    """``federation#site`` or ``federation#server`` of a config, after ``federation#begin``.

    Args:
        config: JSON file.
        part: ``site`` or ``server``.
        settings: entries of the config to replace, by id.
    """
    parser = ConfigParser()
    parser.read_config(str(config))
    parser.update(dict(settings))
    parser.get_parsed_content("federation#begin")
    return parser.get_parsed_content(f"federation#{part}")


def serve(connection: Connection, config: str | Path, settings: Mapping[str, Any]) -> None:
    """Answer messages until the other end is closed."""
    runner = build(config, "site", settings)
    connection.send_bytes(READY)
    try:
        while True:
            connection.send_bytes(runner.answer(connection.recv_bytes()))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def main(arguments: list[str] | None = None) -> None:
    """Serve on an inherited socket."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--socket", type=int, required=True, help="number of the inherited socket")
    parser.add_argument("--config", required=True, help="JSON file with federation#site")
    parser.add_argument("--settings", default="{}", help="entries of the config to replace, as JSON")
    options = parser.parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger(__name__).info("process %d serves %s", os.getpid(), options.config)
    serve(Connection(options.socket), options.config, json.loads(options.settings))


if __name__ == "__main__":
    main()
