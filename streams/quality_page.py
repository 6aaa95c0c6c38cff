"""What `freshet quality` has measured, as a page in Markdown. Every figure and every verdict in it is computed here."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from models.evaluation.metrics import Estimate
from models.evaluation.outcome import Outcome, differences
from models.evaluation.prequential import FUSED
from streams.quality_logs import PublicLog
from streams.quality_peers import BEST_PEER_COLD_USERS, PEERS, PEERS_MRR
from streams.tables import UNKNOWN, figure

COLD_USERS: Final = "cold user"
COLD_ITEMS: Final = "cold item"
LEAST_SHARE: Final = 0.5
"""Of plain ItemCF's hit rate on cold items, what the fused list must reach ..."""
MOST_COST: Final = 0.01
"""... and the part of the total hit rate that the place for newcomers may cost."""
CLEAR: Final = 2.0
"""Standard errors from which on a difference is taken for one."""

# ------------------------------------------------------------------------------------------------ what is said round the figures
HEAD: Final = """
    Written by `make quality` (`freshet quality --page docs/quality.md`): the figures and the verdicts come from the passes of
    that command. One set of defaults for all logs.
    """
LOCKSTEP: Final = """
    Asked in lock-step: the recommender runs in a process of its own (`freshet evaluate --stdio`) and is told an event only after
    it has answered.
    """
SINGLE: Final = """
    The source that would have been best on this log, chosen afterwards, against the fused list. Δ is paired by list; the goal is
    not to be below it by more than one standard error.
    """
COLD: Final = f"""
    Lists before which the item that was taken had 1 to 4 events. A learned fusion buries such items; a place in the list is kept
    for them at a bounded price (`models/newcomers.py`). What that costs is the hit rate over all lists without the place less the
    one with it, as a part of it: at most {MOST_COST:.0%} is the goal.
    """
ADDS: Final = f"""
    The hit rate of the fused list less that of the same model without the source, paired by list. What others can say as well
    adds little, however good it is alone. `all X`: without X and everything that is its own or reads what it has learned.
    **Bold**: at least {CLEAR:.0f} standard errors. –: it never had anything to list there.
    """
ORDER: Final = "The same of NDCG: who is needed for the order of what is found."
ALONE: Final = """
    Hit rates. Plain ItemCF is no source but a yardstick: the cosine of sets of people, summed over everything the user has.
    """
OTHERS: Final = """
    Hit rates of others on the same logs by the same protocol (after a stroke: MRR). They were measured beforehand with their
    defaults and are quoted here, not measured again; batch models were refitted every 5 % of the stream and saw the live history
    of a user where they can.
    """
HOW: Final = (
    """Events are replayed in the order of time. The first part of the log is learned only; then, before every event that counts,
    a list is asked for, and the event's item is looked for in it. First-time items are sure misses and count.""",
    """Where times are whole days, events of a day are ordered by a hash of user and item: the files are grouped by item or by
    user, and their own order would give the next item away.""",
    """HR, NDCG and MRR as in `models/evaluation/metrics.py`; ± is a standard error clustered by user. Differences (Δ) are paired
    by list, so that what is easy or hard for both does not blur them.""",
    """Cold users have fewer than 5 past events, cold items 1 to 4.""",
    """What was measured once is kept under `.freshet/quality`, and measured again only when the log, the protocol, a setting or
    the source of the model has changed.""",
)


class Measured(Struct, frozen=True, kw_only=True):
    """The passes over one log; None where a part was not measured."""

    log: PublicLog
    sources: Outcome | None
    fused: Outcome | None
    plain: Outcome | None
    unseated: Outcome | None
    without: dict[str, Outcome]

    @property
    def lists(self) -> Outcome | None:
        """The fused list: as a stranger measures it, or in this process where that was not done."""
        return self.fused or self.sources


Row = Sequence[str]


def page(logs: Sequence[Measured], unmeasured: Mapping[str, str], code: str, limit: int | None) -> str:
    """The whole page. `unmeasured`: title of a log and why it is not here; `code`: the hash of the source that was measured;
    `limit`: only so many events of each log."""
    head = ["# Quality of the lists", _flow(f"{HEAD} The source that was measured has the hash `{code[:12]}`.")]
    if limit is not None:
        head.append(_flow(f"**A quick look: only the first {limit:,} events of each log.** Whole logs give other figures."))
    if unmeasured:
        said = "; ".join(f"{title} ({why})" for title, why in unmeasured.items())
        head.append(_flow(f"Not measured in this run: {said}."))
    parts = (_fused, _against_single, _cold_users, _cold_items, _ablation, _single_sources, _peers, _how)
    return "\n\n".join([*head, *(text for part in parts if (text := part(logs)))]) + "\n"


# ------------------------------------------------------------------------------------------------ the fused list
def _fused(logs: Sequence[Measured]) -> str:
    rows: list[Row] = []
    for one in logs:
        outcome = one.lists
        overall = outcome.measured() if outcome is not None else None
        if outcome is None or overall is None:
            continue
        goals = ", ".join(
            f"{measure.upper()} {figure(goal)}: {_reached(getattr(overall, measure), goal, more)}"
            for measure, (goal, more) in one.log.goals.items()
        )
        rows.append(
            [
                one.log.title, one.log.counts, f"{overall.n:,}", str(outcome.n), _estimate(overall.hr), _estimate(overall.ndcg),
                _estimate(overall.mrr), goals or UNKNOWN,
            ]
        )  # fmt: skip
    heading = ["log", "what counts", "lists", "places", "HR", "NDCG", "MRR", "goal"]
    return _section(
        "The fused list",
        LOCKSTEP if all(one.fused is not None for one in logs) else "Measured in one process.",
        _table(heading, rows),
        _equal(logs),
    )  # fmt: skip


def _reached(found: Estimate, goal: float, more: float) -> str:
    if round(found.mean, 4) >= more > goal:
        return f"passed, and beyond {figure(more)}"
    if round(found.mean, 4) >= goal:
        return "passed"
    return f"missed by {(goal - found.mean) / found.se:.1f} s.e." if found.se else "missed"


def _equal(logs: Sequence[Measured]) -> str:
    """Whether the two ways of measuring agree."""
    both = [(one.log.title, one.fused, one.sources) for one in logs if one.fused is not None and one.sources is not None]
    if not both:
        return ""
    apart = [
        f"{title} ({int((fused.ranks[FUSED] != inside.ranks[FUSED]).sum()):,} of {len(fused.users):,} lists)"
        for title, fused, inside in both
        if (fused.ranks[FUSED] != inside.ranks[FUSED]).any()
    ]
    said = f"ranks differently on {', '.join(apart)}" if apart else "gives the same lists everywhere"
    return _flow(f"The pass in one process, which the figures of single sources below come from, {said}.")


# ------------------------------------------------------------------------------------------------ single sources
def _against_single(logs: Sequence[Measured]) -> str:
    return _section(
        "Against the best single source",
        SINGLE,
        _table(["log", "best single source", "its HR", "fused HR", "Δ", "in s.e.", "verdict"], _against(logs, "all")),
    )


def _cold_users(logs: Sequence[Measured]) -> str:
    rows = [
        [*row, figure(BEST_PEER_COLD_USERS.get(one.log.name))]
        for one, row in zip([one for one in logs if _against([one], COLD_USERS)], _against(logs, COLD_USERS), strict=True)
    ]
    return _section(
        "Cold users",
        "Users with fewer than 5 past events, strangers included: the same comparison, with the source that is best for them.",
        _table(["log", "best single source", "its HR", "fused HR", "Δ", "in s.e.", "verdict", "best peer"], rows),
    )


def _against(logs: Sequence[Measured], segment: str) -> list[Row]:
    rows: list[Row] = []
    for one in logs:
        ours, inside = one.lists, one.sources
        best = inside.best(segment) if inside is not None else None
        if ours is None or inside is None or best is None:
            continue
        single, fused = inside.measured(best, segment), ours.measured(FUSED, segment)
        change = differences(ours, inside, other_source=best, segment=segment)
        if single is None or fused is None or change is None:
            continue
        d = change["hr"]
        verdict = "above" if d.mean > CLEAR * d.se else "not below" if d.mean >= -d.se else "**below**"
        rows.append(
            [one.log.title, f"`{best}`", _estimate(single.hr), _estimate(fused.hr), _change(d), _in_errors(d), verdict]
        )  # fmt: skip
    return rows


def _single_sources(logs: Sequence[Measured]) -> str:
    return _section(
        "Every source alone",
        ALONE,
        _matrix(
            [one for one in logs if one.sources is not None],
            "source",
            lambda one: [*_by_hits(one.sources), *(["plain ItemCF"] if one.plain is not None else [])],
            _alone,
        ),
    )


def _by_hits(outcome: Outcome | None) -> list[str]:
    if outcome is None:
        return []
    return sorted((name for name in outcome.ranks if name != FUSED), key=lambda name: -int((outcome.ranks[name] >= 0).sum()))


def _alone(one: Measured, name: str) -> str:
    if name == "plain ItemCF":
        return _hits(one.plain, _PLAIN)
    return _hits(one.sources, name)


_PLAIN: Final = "ItemCF K=all"


def _hits(outcome: Outcome | None, name: str, segment: str = "all") -> str:
    measured = outcome.measured(name, segment) if outcome is not None and name in outcome.ranks else None
    return _estimate(measured.hr) if measured is not None else UNKNOWN


# ------------------------------------------------------------------------------------------------ cold items
def _cold_items(logs: Sequence[Measured]) -> str:
    rows: list[Row] = []
    for one in logs:
        ours, plain = one.lists, one.plain
        fused = ours.measured(FUSED, COLD_ITEMS) if ours is not None else None
        yardstick = plain.measured(_PLAIN, COLD_ITEMS) if plain is not None else None
        if fused is None or yardstick is None:
            continue
        share = fused.hr.mean / yardstick.hr.mean if yardstick.hr.mean else None
        verdict = UNKNOWN if share is None else "reached" if share >= LEAST_SHARE else "**not reached**"
        shown = UNKNOWN if share is None else f"{share:.0%}"
        rows.append(
            [one.log.title, f"{fused.n:,}", _estimate(fused.hr), _estimate(yardstick.hr), shown, verdict,
             _hits(one.sources, "item_cf", COLD_ITEMS), *_price(one)]
        )  # fmt: skip
    heading = [
        "log",
        "lists",
        "fused HR",
        "plain ItemCF HR",
        "share",
        f"goal {LEAST_SHARE:.0%}",
        "`item_cf` HR",
        "without a place for newcomers",
    ]
    return _section(
        "Cold items",
        COLD,
        _table([*heading, "its HR on all lists, more", "cost", "verdict"], rows),
    )


def _price(one: Measured) -> Row:
    """Cold items without the mechanism, and what it costs on all lists."""
    if one.unseated is None or one.sources is None:
        return [UNKNOWN] * 4
    cold, change = _hits(one.unseated, FUSED, COLD_ITEMS), differences(one.unseated, one.sources)
    overall = one.unseated.measured()
    if change is None or overall is None or not overall.hr.mean:
        return [cold, UNKNOWN, UNKNOWN, UNKNOWN]
    cost = change["hr"].mean / overall.hr.mean
    return [cold, _change(change["hr"]), f"{cost:+.2%}", "within" if cost <= MOST_COST else "**too much**"]


# ------------------------------------------------------------------------------------------------ what each source adds
def _ablation(logs: Sequence[Measured]) -> str:
    several = [one for one in logs if one.without and one.sources is not None]
    if not several:
        return ""
    return _section(
        "What each source adds",
        ADDS,
        _matrix(several, "source", lambda one: list(one.without), lambda one, name: _adds(one, name, "hr")),
        ORDER,
        _matrix(several, "source", lambda one: list(one.without), lambda one, name: _adds(one, name, "ndcg")),
    )


def _adds(one: Measured, name: str, measure: str) -> str:
    if one.sources is None or name not in one.without:
        return UNKNOWN
    change = differences(one.sources, one.without[name])
    if change is None:
        return UNKNOWN
    d = change[measure]
    if not d.mean and not d.se:
        return "0"
    return f"**{_change(d)}**" if abs(d.mean) >= CLEAR * d.se else _change(d)


# ------------------------------------------------------------------------------------------------ peers
def _peers(logs: Sequence[Measured]) -> str:
    public = [one for one in logs if one.lists is not None and any(one.log.name in figures for figures in PEERS.values())]
    if not public:
        return ""
    rows: list[Row] = [["**fused**", *(_hits(one.lists, FUSED) for one in public)]]
    for peer, figures in PEERS.items():
        if any(one.log.name in figures for one in public):
            rows.append([peer, *(_peer(peer, one.log.name) for one in public)])
    return _section(
        "Peers",
        OTHERS,
        _table(["recommender", *(one.log.title for one in public)], rows),
    )


def _peer(peer: str, log: str) -> str:
    hits, reciprocal = PEERS[peer].get(log), PEERS_MRR.get(peer, {}).get(log)
    return figure(hits) if reciprocal is None else f"{figure(hits)} / {figure(reciprocal)}"


# ------------------------------------------------------------------------------------------------ how
def _how(logs: Sequence[Measured]) -> str:
    return "\n\n".join([
        "## How it is measured",
        "\n".join(_flow(f"- {line}", "  ") for line in HOW),
        _table(
            ["log", "events", "items", "scored", "learned only", "own items"],
            [
                [
                    one.log.title, f"{outcome.report['events']:,}", f"{outcome.report['items']:,}",
                    f"{outcome.report['scored']:,}", _warmup(outcome), "may come again" if one.log.protocol.repeats else "never",
                ]
                for one in logs
                if (outcome := one.lists) is not None
            ],
        ),
    ])  # fmt: skip


def _warmup(outcome: Outcome) -> str:
    warmup = outcome.report["protocol"]["warmup"]
    return f"{warmup:.0%}" if warmup < 1 else f"{int(warmup):,} events"


# ------------------------------------------------------------------------------------------------ Markdown
def _section(title: str, text: str, *parts: str) -> str:
    if not parts[0]:
        return ""
    return "\n\n".join(part for part in (f"## {title}", _flow(text), *parts) if part)


def _flow(text: str, indent: str = "") -> str:
    """A paragraph in lines."""
    return textwrap.fill(" ".join(text.split()), 130, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _table(heading: Row, rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    lines = [_line(heading), "|" + "---|" * len(heading), *map(_line, rows)]
    return "\n".join(lines)


def _line(cells: Row) -> str:
    return "| " + " | ".join(cells) + " |"


def _matrix(
    logs: Sequence[Measured], corner: str, names: Callable[[Measured], Sequence[str]], cell: Callable[[Measured, str], str]
) -> str:
    """A row for each name, a column for each log."""
    every = dict.fromkeys(name for one in logs for name in names(one))
    rows = [[f"`{name}`" if " " not in name else name, *(cell(one, name) for one in logs)] for name in every]
    return _table([corner, *(one.log.title for one in logs)], rows)


def _estimate(value: Estimate) -> str:
    return f"{figure(value.mean)} ± {figure(value.se)}"


def _change(value: Estimate) -> str:
    return f"{figure(value.mean, '+')} ± {figure(value.se)}"


def _in_errors(value: Estimate) -> str:
    return f"{value.mean / value.se:+.1f}" if value.se else UNKNOWN
