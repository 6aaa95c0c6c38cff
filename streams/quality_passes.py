"""Which passes measure a log, and what they gave: from the store where it is known, measured and kept where it is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from models import Config
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


def specs(logs: Sequence[PublicLog], parts: Sequence[str], folder: Path, config: Config, limit: int | None) -> dict[Name, Spec]:
    """Every pass by its name, log by log. Of a `limit` that the warm-up would use up, a fifth is the warm-up."""
    found: dict[Name, Spec] = {}
    for log in logs:
        protocol = msgspec.structs.replace(log.protocol, limit=limit)
        if limit is not None and protocol.warmup >= limit:
            protocol = msgspec.structs.replace(protocol, warmup=0.2)
        inside = msgspec.structs.replace(log.spec(folder, config), protocol=protocol)
        by_part = {
            PLAIN: {PLAIN: msgspec.structs.replace(inside, way="neighbours", text=False, neighbourhoods=PLAIN_ITEM_CF)},
            SOURCES: {SOURCES: inside},
            FUSED: {FUSED: msgspec.structs.replace(inside, way="lockstep")},
            NEWCOMERS: {NEWCOMERS: _with(inside, msgspec.structs.replace(config, newcomer_price=0.0))},
            ABLATION: {f"{ABLATION}:{variant.name}": _with(inside, variant.config) for variant in ablation(config)[1:]},
        }
        for part, several in by_part.items():
            if part in parts:
                found |= {(log.name, name): spec for name, spec in several.items()}
    return found


PLAIN_ITEM_CF: Final = Neighbourhoods(systems=(ITEM_CF,), ks=(None,))


def _with(spec: Spec, config: Config) -> Spec:
    return msgspec.structs.replace(spec, config=config)


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
