"""Where the repository keeps what bundles are compared with."""

from __future__ import annotations

from pathlib import Path

TOOLS = Path(__file__).resolve().parents[1]
REPOSITORY = TOOLS.parent
TEMPLATES = TOOLS / "templates"
