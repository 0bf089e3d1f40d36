"""How a server reaches its sites; here, sites in the same process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from medsynth_ext.engines.federated.site import SiteRunner

__all__ = ["LocalSites", "SiteLink"]


class SiteLink(Protocol):
    """Carries messages to sites and their answers back."""

    sites: Sequence[str]

    def ask(self, message: bytes, sites: Sequence[str]) -> Mapping[str, bytes | Exception]:
        """Every site's answer, or an exception for a silent one; never raises for one site's sake."""


class LocalSites:
    """Sites that live in this process and are asked one after the other.

    Args:
        runners: name to site.
    """

    def __init__(self, runners: Mapping[str, SiteRunner]) -> None:
        self.runners = dict(runners)
        self.sites: Sequence[str] = tuple(self.runners)

    def ask(self, message: bytes, sites: Sequence[str]) -> dict[str, bytes | Exception]:
        return {site: self.runners[site].answer(message) for site in sites}
