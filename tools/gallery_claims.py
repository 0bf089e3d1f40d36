"""A bundle's claims as the gallery shows them: every measured figure beside the paper's own, where it has one."""

from __future__ import annotations

from html import escape
from typing import Any

# By claim and by what is measured, the paper's figure and where it stands: {"1": {"F1, a minus b": {"paper", "from"}}}
Figures = dict[str, dict[str, dict[str, str]]]
SIGNS = {"<=": "\u2264", ">=": "\u2265"}
COLUMNS = ("what is compared", "paper", "here", "wanted")


def number(value: Any) -> str:
    """A measured value to three digits."""
    return f"{value:.3g}" if isinstance(value, float) and abs(value) < 1000 else str(value)


def unknown_figures(figures: Figures, runs: list[dict[str, Any]]) -> list[str]:
    """Figures of the paper that nothing was measured for, which happens when a claim is worded anew."""
    measured = {(claim["claim"], part["what"]) for run in runs for claim in run["claims"] for part in claim["measured"]}
    return [f"{claim}: {what}" for claim, parts in figures.items() for what in parts if (claim, what) not in measured]


def setting(record: dict[str, Any]) -> str:
    """What a run was measured on."""
    machine, seeds = record["machine"], max((len(arm["seeds"]) for arm in record["arms"].values()), default=0)
    where = machine["gpu"] or f"{machine['threads']} thread of {machine['cpu']}"
    return f"scale {record['scale']}, {seeds} seed{'s' * (seeds != 1)} per arm, {where}, {record['date']}"


def row(part: dict[str, Any], paper: dict[str, str] | None) -> str:
    """A measured figure beside the paper's."""
    kind = "condition" if part["what"].startswith("precondition:") else "part"
    theirs = f"<b>{escape(paper['paper'])}</b><span>{escape(paper['from'])}</span>" if paper else "\u2013"
    wanted = part["wanted"]
    for ascii_sign, sign in SIGNS.items():
        wanted = wanted.replace(ascii_sign, sign)
    cells = (
        f"<td>{escape(part['what'])}</td>",
        f'<td data-column="paper">{theirs}</td>',
        f'<td data-column="here" class="{_kind(part["held"])}">{escape(number(part["measured"]))}</td>',
        f'<td data-column="wanted">{escape(wanted)}</td>',
    )
    return f'<tr class="{kind}">{"".join(cells)}</tr>'


def claim_rows(claim: dict[str, Any], figures: dict[str, dict[str, str]]) -> str:
    """A claim: its sentence and outcome, its figures, and why it did not hold."""
    kind, outcome = ("held", "held") if claim["held"] else ("missed", "not held")
    head = f'<span class="outcome {kind}">{outcome}</span>{escape(str(claim["claim"]))}. {escape(claim["sentence"])}'
    rows = [f'<tr><th colspan="4" scope="rowgroup">{head}</th></tr>']
    rows += [row(part, figures.get(part["what"])) for part in claim["measured"]]
    if claim.get("reason"):
        why = f"<details><summary>Why not</summary>{escape(claim['reason'])}</details>"
        rows.append(f'<tr class="reason"><td colspan="4">{why}</td></tr>')
    return f"<tbody>{''.join(rows)}</tbody>"


def claims_table(record: dict[str, Any], figures: Figures, data: str) -> str:
    """The claims of one run as a table; ``data`` is what the paper measured on."""
    head = "".join(f'<th scope="col">{column}</th>' for column in COLUMNS)
    bodies = "".join(claim_rows(claim, figures.get(claim["claim"], {})) for claim in record["claims"])
    paper = f"Paper: {data}. " if data else ""
    where = escape(f"{paper}Here: phantoms unless a row says otherwise, {setting(record)}.")
    return (
        f"<h3>The paper's claims, measured</h3><p class='setting'>{where}</p>"
        f"<table><thead><tr>{head}</tr></thead>{bodies}</table>"
    )


def outcomes(runs: list[dict[str, Any]]) -> list[bool]:
    """Whether each claim held."""
    return [claim["held"] for run in runs for claim in run["claims"]]


def summary(held: list[bool]) -> str:
    """How many claims of the paper were measured, and how many held."""
    return f"{sum(held)} of {len(held)} measured claims held" if held else "no claim measured yet"


def pips(held: list[bool]) -> str:
    """A small mark for every claim."""
    return f'<i class="pips">{"".join(f"<i class={_kind(one)!r}></i>" for one in held)}</i>'


def _kind(held: bool) -> str:
    return "held" if held else "missed"
