"""What is raised for a scan that is no good."""

from __future__ import annotations

__all__ = ["ScanError"]


class ScanError(ValueError):
    """A scan that cannot be used; the message is one sentence that names the file, what was wanted and what came."""
