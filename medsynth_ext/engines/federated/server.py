"""The server of a federation: it owns what is shared, averages the sites' gradients and steps its optimiser."""

from __future__ import annotations

import logging
import math
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from medsynth_ext.data.files import replacing, write_json
from medsynth_ext.engines.federated.gradients import check_gradients, mean_gradients
from medsynth_ext.engines.federated.links import SiteLink
from medsynth_ext.engines.federated.messages import MessageError, pack, unpack
from medsynth_ext.engines.federated.plan import Exchange, plan_fingerprint
from medsynth_ext.engines.federated.privacy import gradient_norm
from medsynth_ext.engines.federated.states import StateFolder
from medsynth_ext.engines.latent import LatentGaussian

__all__ = ["FederatedServer", "FederationError", "SharedOptimizer"]

logger = logging.getLogger(__name__)

Check = Callable[[Mapping[str, Any]], None]


class FederationError(RuntimeError):
    """A federation cannot go on; the message names the sites and their reasons. What was reached is saved."""


class SharedOptimizer(Protocol):
    """Steps the shared parameters with given gradients."""

    def apply(self, gradients: Mapping[str, Tensor], phase: str, *, factor: float = 1.0) -> None:
        """One step of a phase's optimiser."""

    def state_dict(self) -> dict[str, Any]:
        """All optimisers."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""


class FederatedServer:
    """Runs a plan with a fixed number of exchanges, as Li et al., MICCAI 2020: mean of the gradients, one Adam step.

    A site whose answer is missing, damaged, of wrong names or shapes or not finite is set aside for the exchange and
    named in the log. The run goes on without it when at least ``minimum_sites`` answered, or else asks again for
    ``patience_s``. For a silent site everybody waits as long at the start, at the end and with work that nobody else
    depends on. A server that is started again goes on from its newest state, and the sites with it.

    Args:
        model: the shared networks; their state must consist of parameters alone.
        optimizers: of the model's parameters.
        plan: exchanges; see ``Exchange``.
        folder: for states, ``shared.pt``, ``gaussian.pt`` and ``federation.json``.
        weighting: ``equal`` (the paper's) or ``volumes``, by the number of a site's volumes.
        minimum_sites: answers that an update needs; all when ``None``.
        on_fault: ``continue`` as described, or ``stop`` at the first fault.
        patience_s: how long to wait for missing sites.
        retry_s: pause between two questions to a missing site.
        save_every: exchanges between two saved states.
        keep: saved states to keep.
        pool_latents: end with the Gaussian of all sites' latents; off for methods without latents.

    Raises:
        ValueError: for another weighting or ``on_fault``, numbers out of range, or a model with running buffers.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: SharedOptimizer,
        plan: Sequence[Exchange],
        folder: str | Path,
        *,
        weighting: str = "equal",
        minimum_sites: int | None = None,
        on_fault: str = "continue",
        patience_s: float = 300.0,
        retry_s: float = 1.0,
        save_every: int = 10,
        keep: int = 2,
        pool_latents: bool = True,
    ) -> None:
        if weighting not in ("equal", "volumes"):
            raise ValueError(f"weighting must be 'equal' or 'volumes', got {weighting!r}")
        if on_fault not in ("continue", "stop"):
            raise ValueError(f"on_fault must be 'continue' or 'stop', got {on_fault!r}")
        if save_every < 1 or (minimum_sites is not None and minimum_sites < 1):
            raise ValueError(f"save_every and minimum_sites must be at least 1, got {save_every} and {minimum_sites}")
        buffers = sorted(set(model.state_dict()) - {name for name, _ in model.named_parameters()})
        if buffers:
            raise ValueError(f"a shared model must have no running buffers, got {buffers[0]}; use group norm")
        self.model, self.optimizers, self.plan = model, optimizers, list(plan)
        self.folder = Path(folder)
        self.weighting, self.minimum_sites, self.on_fault = weighting, minimum_sites, on_fault
        self.patience_s, self.retry_s, self.save_every = patience_s, retry_s, save_every
        self.states = StateFolder(self.folder / "states", keep=keep)
        self.pool_latents = pool_latents
        self.run_id = secrets.token_hex(8)
        self.done = self.saved = 0  # exchanges
        self.faults: list[dict[str, Any]] = []
        self.history: list[dict[str, Any]] = []
        self.missing: dict[str, str] = {}  # sites that are set aside at present, and the reason that was logged
        self.gaussian: LatentGaussian | None = None

    # The run

    def run(self, link: SiteLink, *, progress: Callable[[float, str], None] | None = None) -> LatentGaussian | None:
        """Run what is left of the plan, pool the latents and send the result to the sites.

        Returns:
            The Gaussian of all sites' latents, if they were pooled.

        Raises:
            FederationError: when too few sites answer, or one fails and ``on_fault`` is ``stop``.
            ValueError: when the folder holds the state of another plan.
        """
        self._resume()
        self._collect(link, {"kind": "hello", "number": 0, "save": False}, need_all=True)
        count = len(self.plan)
        for number in range(self.done + 1, count + 1):
            row = self._exchange(link, number)
            if progress is not None:
                progress(number / count, f"exchange {number} of {count}, loss {row['loss']:.3f}")
        if self.pool_latents:
            self._pool(link)
        final = {"kind": "finish", "state": self._shared_state()}
        final["gaussian"] = {} if self.gaussian is None else self.gaussian.state_dict()
        self._collect(link, {**final, "number": count + 2, "save": True}, need_all=True)
        self._write_results()
        return self.gaussian

    def _exchange(self, link: SiteLink, number: int) -> dict[str, Any]:
        exchange = self.plan[number - 1]
        save = self._saves(number)
        request = {"kind": "step", "number": number, "save": save, "shares": exchange.phase is not None}
        request |= {"work": [dict(item) for item in exchange.work], "state": self._shared_state()}
        replies = self._collect(link, request, need_all=exchange.phase is None, check=self._check_step)
        row: dict[str, Any] = {"number": number, "phase": exchange.phase, "sites": list(replies)}
        row["losses"] = {site: reply["scalars"].get("loss", 0.0) for site, reply in replies.items()}
        row["loss"] = sum(row["losses"].values()) / len(replies)
        if exchange.phase is not None:
            given = [reply for reply in replies.values() if reply["samples"]]
            if given:
                weights = [reply["size"] for reply in given] if self.weighting == "volumes" else None
                mean = mean_gradients([reply["gradients"] for reply in given], weights)
                self.optimizers.apply(mean, exchange.phase, factor=exchange.factor)
                row["gradient_norm"] = gradient_norm(mean)
        self.done = number
        self.history.append(row)
        if save:
            self._save()
        return row

    def _pool(self, link: SiteLink) -> None:
        """The Gaussian of everybody's latents, from their moments."""
        request = {"kind": "moments", "number": len(self.plan) + 1, "save": True}
        replies = self._collect(link, request, need_all=True, check=_check_moments)
        self.gaussian = LatentGaussian.pooled(
            LatentGaussian(reply["mean"], reply["covariance"], int(reply["count"])) for reply in replies.values()
        )

    def _saves(self, number: int) -> bool:
        """Whether to save after an exchange: now and then, and around long work, so that none is done twice."""
        alone = [exchange.phase is None for exchange in self.plan[number - 1 : number + 1]]
        return number % self.save_every == 0 or number == len(self.plan) or any(alone)

    def _shared_state(self) -> dict[str, Tensor]:
        return {name: value.detach().cpu() for name, value in self.model.state_dict().items()}

    # Sites

    def _collect(
        self, link: SiteLink, request: Mapping[str, Any], *, need_all: bool, check: Check | None = None
    ) -> dict[str, dict[str, Any]]:
        """Good answers by site, in the order of the sites."""
        number = int(request["number"])
        message = pack({**request, "run": self.run_id})
        minimum = len(link.sites) if self.minimum_sites is None else self.minimum_sites
        good: dict[str, dict[str, Any]] = {}
        reasons: dict[str, str] = {}
        started = time.monotonic()
        while True:
            answers = link.ask(message, [site for site in link.sites if site not in good])
            silent = {site for site, answer in answers.items() if isinstance(answer, Exception)}
            for site, answer in answers.items():
                try:
                    good[site] = _read(answer, number, site, check)
                except (MessageError, OSError, RuntimeError) as error:
                    reasons[site] = str(error)
                    self._note_fault(number, site, reasons[site])
            # At the start a silent site is one that is still getting ready.
            stopping = self.on_fault == "stop" and bool(number or set(link.sites) - set(good) - silent)
            late = time.monotonic() - started > self.patience_s
            enough = len(good) >= minimum and not stopping and (late or not (need_all and silent))
            if len(good) == len(link.sites) or enough:
                break
            if stopping or late:
                named = "; ".join(f"{site}: {reasons[site]}" for site in link.sites if site not in good)
                where = f"exchange {number}" if number else "the start"
                text = (
                    f"{where} needs {len(link.sites) if stopping else minimum} sites and has {len(good)} "
                    f"({named}); started again, the run goes on after exchange {self.saved} of {len(self.plan)}"
                )
                self._write_report(stopped=text)
                raise FederationError(text)
            time.sleep(self.retry_s)
        for site in [site for site in self.missing if site in good]:
            logger.warning("site %s is %s", site, f"back in exchange {number}" if number else "there")
            del self.missing[site]
        return {site: good[site] for site in link.sites if site in good}

    def _note_fault(self, number: int, site: str, reason: str) -> None:
        """Remember what went wrong; sites that are still starting are no fault."""
        if self.missing.get(site) != reason:
            what = f"set aside in exchange {number}" if number else "awaited"
            logger.warning("site %s is %s: %s", site, what, reason)
        self.missing[site] = reason
        if number == 0:
            return
        for fault in reversed(self.faults):
            if fault["number"] != number:
                break
            if fault["site"] == site:
                fault["times"] += 1
                return
        self.faults.append({"number": number, "site": site, "reason": reason, "times": 1})

    def _check_step(self, reply: Mapping[str, Any]) -> None:
        scalars = reply.get("scalars")
        if not isinstance(scalars, Mapping) or not all(isinstance(v, int | float) for v in scalars.values()):
            raise MessageError("scalars must be a dict of numbers")
        if not all(math.isfinite(v) for v in scalars.values()):
            raise MessageError("a loss is not finite")
        exchange = self.plan[int(reply["number"]) - 1]
        if exchange.phase is None:
            return
        gradients = check_gradients(reply.get("gradients"), dict(self.model.named_parameters()))
        samples, size = reply.get("samples"), reply.get("size")
        if not isinstance(samples, int) or not isinstance(size, int) or samples < 0 or size < 1:
            raise MessageError(f"samples and size must be counts of volumes, got {samples!r} and {size!r}")
        if samples and not gradients:
            raise MessageError(f"gradients of {samples} volumes are missing")

    # State

    def _save(self) -> None:
        state = {
            "run": self.run_id,
            "plan": plan_fingerprint(self.plan),
            "model": self.model.state_dict(),
            "optimizers": self.optimizers.state_dict(),
            "faults": self.faults,
            "history": self.history,
        }
        self.states.save(self.done, state)
        self.saved = self.done
        self._write_report()

    def _resume(self) -> None:
        found = self.states.newest()
        if found is None:
            self._save()  # the sites need to know the run even if the server dies in the first exchange
            return
        self.done = self.saved = found[0]
        state = found[1]
        if state["plan"] != plan_fingerprint(self.plan):
            raise ValueError(f"{self.folder} holds the state of another plan; use the same settings or another folder")
        self.run_id = state["run"]
        self.model.load_state_dict(state["model"])
        self.optimizers.load_state_dict(state["optimizers"])
        self.faults, self.history = list(state["faults"]), list(state["history"])
        if self.done:
            logger.info("the server goes on after exchange %d of run %s", self.done, self.run_id)

    def _write_report(self, *, stopped: str = "") -> None:
        content = {
            "run": self.run_id,
            "exchanges": len(self.plan),
            "done": self.done,
            "stopped": stopped,
            "weighting": self.weighting,
            "faults": self.faults,
            "history": self.history,
        }
        write_json(self.folder / "federation.json", content)

    def _write_results(self) -> None:
        self._write_report()
        results: dict[str, Any] = {} if self.gaussian is None else {"gaussian": self.gaussian.state_dict()}
        results["shared"] = self._shared_state()
        for name, state in results.items():
            with replacing(self.folder / f"{name}.pt") as temporary:
                torch.save(state, temporary)


def _read(answer: bytes | Exception, number: int, site: str, check: Check | None) -> dict[str, Any]:
    if isinstance(answer, Exception):
        raise MessageError(f"no answer: {answer}")
    reply = unpack(answer)
    if "error" in reply:
        raise MessageError(str(reply["error"]))
    if reply.get("number") != number or reply.get("site") != site:
        raise MessageError(
            f"an answer of {site} to {number} was wanted, got one of {reply.get('site')!r} to {reply.get('number')!r}"
        )
    if check is not None:
        check(reply)
    return reply


def _check_moments(reply: Mapping[str, Any]) -> None:
    mean, covariance, count = reply.get("mean"), reply.get("covariance"), reply.get("count")
    if not isinstance(mean, Tensor) or not isinstance(covariance, Tensor) or not isinstance(count, int):
        raise MessageError("moments must be mean, covariance and count of latents")
    size = mean.numel()
    if mean.ndim != 1 or tuple(covariance.shape) != (size, size) or count < 1:
        raise MessageError(
            f"moments must be (d,), (d, d) and at least 1, got {tuple(mean.shape)}, {tuple(covariance.shape)}, {count}"
        )
    if not torch.isfinite(mean).all() or not torch.isfinite(covariance).all():
        raise MessageError("moments of latents are not finite")
    lowest = float(torch.linalg.eigvalsh(covariance.double()).min())
    if not torch.allclose(covariance, covariance.T) or lowest < -1e-6 * float(covariance.abs().max()) - 1e-12:
        raise MessageError("the covariance of latents is not symmetric and positive")
