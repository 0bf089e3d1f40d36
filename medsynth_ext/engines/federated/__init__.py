"""Federated training: a server that owns what is shared, and sites that keep their data and private networks."""

from medsynth_ext.engines.federated.gradients import mean_gradients
from medsynth_ext.engines.federated.links import LocalSites, SiteLink
from medsynth_ext.engines.federated.messages import MessageError
from medsynth_ext.engines.federated.plan import Exchange
from medsynth_ext.engines.federated.privacy import GradientFilter
from medsynth_ext.engines.federated.process import ProcessSites, SiteProcess
from medsynth_ext.engines.federated.server import FederatedServer, FederationError, SharedOptimizer
from medsynth_ext.engines.federated.site import FederatedSite, SiteResult, SiteRunner

__all__ = [
    "Exchange",
    "FederatedServer",
    "FederatedSite",
    "FederationError",
    "GradientFilter",
    "LocalSites",
    "MessageError",
    "ProcessSites",
    "SharedOptimizer",
    "SiteLink",
    "SiteProcess",
    "SiteResult",
    "SiteRunner",
    "mean_gradients",
]
