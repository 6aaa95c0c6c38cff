"""Which passes measure a log, and what they gave: from the store where it is known, measured and kept where it is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from models import Config, Recommender
from models.evaluation.neighbour_lists import ITEM_CF, TooLargeError
from models.evaluation.outcome import Outcome
from streams.evaluate_passes import Neighbourhoods, Spec, measure_all
from streams.evaluate_variants import ablation
from streams.quality_logs import PublicLog
from streams.quality_store import Store

SOURCES: Final = "sources"
FUSED: Final = "fused"
PLAIN: Final = "plain"
NEWCOMERS: Final = "newcomers"
ABLATION: Final = "ablation"
PARTS: Final = {
    SOURCES: "every source and the fused list, in this process",
    FUSED: "the fused list, asked in lock-step",
    PLAIN: "plain ItemCF for comparison",
    NEWCOMERS: "the fused list without a place for newcomers",
    ABLATION: "the fused list without each source",
}

Name = tuple[str, str]
"""(log, part): of the ablation the part is `ablation:<source>`."""
Passes = dict[Name, Outcome]
PLAIN_ITEM_CF: Final = Neighbourhoods(systems=(ITEM_CF,), ks=(None,))


def specs(logs: Sequence[PublicLog], parts: Sequence[str], folder: Path, config: Config, limit: int | None) -> dict[Name, Spec]:
    """Every pass but those of the ablation by its name, log by log."""
    found: dict[Name, Spec] = {}
    for log in logs:
        inside = _inside(log, folder, config, limit)
        by_part = {
            PLAIN: _replace(inside, way="neighbours", text=False, neighbourhoods=PLAIN_ITEM_CF),
            SOURCES: inside,
            FUSED: _replace(inside, way="lockstep"),
            NEWCOMERS: _replace(inside, config=_replace(config, newcomer_price=0.0), single=False),
        }
        found |= {(log.name, part): spec for part, spec in by_part.items() if part in parts}
    return found


def ablation_specs(
    logs: Sequence[PublicLog], found: Passes, folder: Path, config: Config, limit: int | None
) -> dict[Name, Spec]:  # fmt: skip
    """The passes without each source, of the logs whose sources are `found`. A source that has not listed anything there is not
    left out: it makes no difference."""
    wanted: dict[Name, Spec] = {}
    for log in logs:
        sources = found.get((log.name, SOURCES))
        if sources is None:
            continue
        inside, whole = _inside(log, folder, config, limit), set(_speaking(config, sources))
        for variant in ablation(config, instances=False)[1:]:
            if whole - set(_speaking(variant.config, sources)):
                wanted[log.name, f"{ABLATION}:{variant.name}"] = _replace(inside, config=variant.config, single=False)
    return wanted


def _speaking(config: Config, sources: Outcome) -> list[str]:
    """The sources of the configuration that have listed something."""
    listed = {name for name, row in sources.report["sources"].items() if row["coverage"] > 0}
    return [source.name for source in Recommender(config).sources if source.name in listed]


def _inside(log: PublicLog, folder: Path, config: Config, limit: int | None) -> Spec:
    """The pass in this process. Of a `limit` that the warm-up would use up, a fifth is the warm-up."""
    protocol = _replace(log.protocol, limit=limit)
    if limit is not None and protocol.warmup >= limit:
        protocol = _replace(protocol, warmup=0.2)
    return _replace(log.spec(folder, config), protocol=protocol)


_replace = msgspec.structs.replace


def measured(
    wanted: Mapping[Name, Spec],
    store: Store,
    *,
    jobs: int = 1,
    fresh: bool = False,
    progress: Callable[[int, float], None] = lambda passes, done: None,
    too_large: Callable[[Name, TooLargeError], None] = lambda name, problem: None,
) -> Passes:
    """What each pass gives. `fresh`: measure again what is known. `progress` is told how many passes there are to measure, and
    how many passes' worth of work is done. A log too large for a plain neighbourhood goes without, and `too_large` is told."""
    known = {name: None if fresh else store.get(spec) for name, spec in wanted.items()}
    missing = [name for name, outcome in known.items() if outcome is None]
    plain = [name for name in missing if wanted[name].way == "neighbours"]
    for name in plain:
        try:
            known[name] = next(_kept([name], wanted, store, 1, lambda done: None))[1]
        except TooLargeError as problem:
            too_large(name, problem)
    others = [name for name in missing if name not in plain]
    for name, outcome in _kept(others, wanted, store, jobs, lambda done: progress(len(others), done)):
        known[name] = outcome
    return {name: outcome for name, outcome in known.items() if outcome is not None}


def _kept(
    names: Sequence[Name], wanted: Mapping[Name, Spec], store: Store, jobs: int, progress: Callable[[float], None]
) -> Iterator[tuple[Name, Outcome]]:
    todo = [wanted[name] for name in names]
    for place, outcome in measure_all(todo, jobs=jobs, progress=progress):
        store.put(todo[place], outcome)
        yield names[place], outcome
