"""A site's side of a federation: it answers the server, keeps its own state, and notes what leaves it."""

from __future__ import annotations

import hashlib
import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from medsynth_ext.engines.federated.messages import MessageError, pack, unpack
from medsynth_ext.engines.federated.privacy import GradientFilter, gradient_norm
from medsynth_ext.engines.federated.report import SentReport
from medsynth_ext.engines.federated.states import StateFolder
from medsynth_ext.engines.latent import LatentGaussian

__all__ = ["FederatedSite", "SiteResult", "SiteRunner"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SiteResult:
    """What a site's work came to.

    Args:
        gradients: of the shared parameters, by name; empty when the work left them alone.
        scalars: the loss and its terms.
        samples: volumes behind the gradients; a site without any is left out of the mean.
    """

    gradients: Mapping[str, Tensor] = field(default_factory=dict)
    scalars: Mapping[str, float] = field(default_factory=dict)
    samples: int = 0


class FederatedSite(Protocol):
    """What a method gives to the federation: a site's data, private parts and training."""

    def prepare(self) -> None:
        """Read the data and make the optimisers; called once before anything else."""

    def size(self) -> int:
        """Number of the site's volumes."""

    def run(self, state: Mapping[str, Tensor], work: Sequence[Mapping[str, Any]]) -> SiteResult:
        """Do the work with the shared state and update what is private.

        A ``FloatingPointError`` says that nothing was changed.
        """

    def latents(self) -> LatentGaussian:
        """Moments of the site's latents."""

    def finish(self, state: Mapping[str, Tensor], gaussian: LatentGaussian | None, folder: Path) -> None:
        """Leave the site's own results in a folder, with the final shared state and the pooled latents."""

    def state_dict(self) -> dict[str, Any]:
        """Everything private that training changes."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""


class SiteRunner:
    """Answers the messages of a server.

    Every request has a number and is done once: asked again, the site repeats its answer. Where the server asks for it,
    the site saves its state together with that answer before the answer leaves. A site that starts again goes on from
    its newest saved state with the newest shared parameters; one that is ahead of a server that was started again goes
    back to the state that both have.

    Args:
        site: the method's part.
        folder: for the states and the report; states of different runs are kept apart.
        name: of the site.
        privacy: what happens to gradients before they leave; nothing by default.
        minimum_latents: moments of fewer latents are not sent, since they would give them away.
        keep: saved states to keep.
    """

    def __init__(
        self,
        site: FederatedSite,
        folder: str | Path,
        *,
        name: str,
        privacy: GradientFilter | None = None,
        minimum_latents: int = 2,
        keep: int = 2,
    ) -> None:
        self.site = site
        self.folder = Path(folder)
        self.name = name
        self.privacy = GradientFilter() if privacy is None else privacy
        self.minimum_latents, self.keep = minimum_latents, keep
        self.beginning = StateFolder(self.folder / "beginning")
        self.report = SentReport(name, self.folder)
        self.run: str | None = None  # of the state at hand
        self.done = 0  # exchanges behind the state at hand
        self.last = b""  # answer to the last of them
        self.asked = ""  # checksum of the message behind it
        self.prepared = False

    def answer(self, message: bytes) -> bytes:
        """Do what a message asks for and say what came of it; an error becomes an answer that says so."""
        number = 0
        try:
            request = unpack(message)
            number = int(request["number"])
            asked = hashlib.sha256(message).hexdigest()
            if request["kind"] == "hello":
                self._prepare()
                reply = pack({"number": number, "site": self.name})
                self.report.message("hello", len(reply), number=number)
                return reply
            self._recall(str(request["run"]), number, asked)
            if number == self.done:
                self.report.message("repeated answer", len(self.last), number=number)
                return self.last
            kinds = {"step": self._step, "moments": self._moments, "finish": self._finish}
            return kinds[request["kind"]](request, asked)
        except Exception as error:
            logger.exception("site %s could not do exchange %d", self.name, number)
            if not isinstance(error, FloatingPointError | MessageError):
                self.run = None  # half of an update may have happened: go back to what was saved
            text = f"{type(error).__name__}: {_without_paths(str(error))}"
            reply = pack({"number": number, "site": self.name, "error": text})
            self.report.message("error", len(reply), number=number, text=text)
            self.report.write()
            return reply

    def _prepare(self) -> None:
        if not self.prepared:
            self.site.prepare()
            self.beginning.save(0, self.site.state_dict())
            self.prepared = True

    def _recall(self, run: str, number: int, asked: str) -> None:
        """Have the state before exchange ``number`` of a run, or the one after it if its answer was to this message."""
        if self.run == run and (self.done < number or (self.done == number and self.asked == asked)):
            return
        self._prepare()
        self.states = StateFolder(self.folder / run, keep=self.keep)
        found = self.states.newest(at_most=number)
        if found is not None and found[0] == number and found[1]["asked"] != asked:
            found = self.states.newest(at_most=number - 1)
        if found is None:
            if self.states.files():
                logger.warning(
                    "site %s has no state of run %s before exchange %d: it begins anew", self.name, run, number
                )
            first = self.beginning.newest()
            assert first is not None
            self.site.load_state_dict(first[1])
            self.done, self.last, self.asked = 0, b"", ""
        else:
            self.done, state = found
            self.site.load_state_dict(state["site"])
            self.privacy.load_state_dict(state["privacy"])
            self.last, self.asked = state["answer"], state["asked"]
            logger.info("site %s goes on after exchange %d of run %s", self.name, self.done, run)
        self.run = run

    def _step(self, request: Mapping[str, Any], asked: str) -> bytes:
        number, shares = request["number"], bool(request["shares"])
        result = self.site.run(request["state"], request["work"])
        bad = [name for name, gradient in result.gradients.items() if not torch.isfinite(gradient).all()]
        bad += [name for name, value in result.scalars.items() if not math.isfinite(value)]
        if bad:
            raise ValueError(f"{bad[0]} is not finite")
        content = {"number": number, "site": self.name, "scalars": dict(result.scalars)}
        sent: dict[str, Tensor] = {}
        if shares:
            if result.samples:
                sent = self.privacy(result.gradients, number)
            content |= {"gradients": sent, "samples": result.samples, "size": self.site.size()}
        return self._leave(
            request,
            asked,
            "gradients" if shares else "progress",
            content,
            tensors=sent,
            scalars=(*result.scalars, *(("samples", "size") if shares else ())),
            norm_before=gradient_norm(result.gradients),
        )

    def _moments(self, request: Mapping[str, Any], asked: str) -> bytes:
        gaussian = self.site.latents()
        if gaussian.count < self.minimum_latents:
            raise ValueError(
                f"moments of {gaussian.count} latents give them away; at least {self.minimum_latents} are wanted"
            )
        tensors = {"mean": gaussian.mean.cpu(), "covariance": gaussian.covariance.cpu()}
        content = {"number": request["number"], "site": self.name, "count": gaussian.count, **tensors}
        return self._leave(request, asked, "latent_moments", content, tensors=tensors, scalars=("count",))

    def _finish(self, request: Mapping[str, Any], asked: str) -> bytes:
        gaussian = LatentGaussian.from_state(request["gaussian"]) if request["gaussian"] else None
        self.site.finish(request["state"], gaussian, self.folder)
        return self._leave(request, asked, "done", {"number": request["number"], "site": self.name})

    def _leave(
        self, request: Mapping[str, Any], asked: str, kind: str, content: Mapping[str, Any], **note: Any
    ) -> bytes:
        """The answer, noted and, if asked for, saved with the state behind it."""
        self.last, self.asked = pack(content), asked
        self.done = number = int(request["number"])
        self.report.message(kind, len(self.last), number=number, **note)
        if request["save"]:
            state: dict[str, Any] = {"site": self.site.state_dict(), "privacy": self.privacy.state_dict()}
            state |= {"answer": self.last, "asked": asked}
            self.states.save(number, state)
            self.report.write()
        return self.last


def _without_paths(text: str) -> str:
    """The text with file names taken out: they may name patients."""
    return re.sub(r"\S*[/\\]\w\S*|\S+\.(?:nii|gz|dcm|nrrd|mha|mhd|pt|npz)\b", "(a file)", text)
