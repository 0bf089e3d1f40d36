"""What is raised for a scan that is no good."""

from __future__ import annotations

__all__ = ["ScanError", "one_line"]


class ScanError(ValueError):
    """A scan that cannot be used; the message is one sentence that names the file, what was wanted and what came."""


def one_line(error: BaseException) -> str:
    """What an error of another library says, fit for a sentence: one line of at most 200 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."
