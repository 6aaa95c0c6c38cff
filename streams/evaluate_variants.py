"""Variants of a model that are measured beside each other: the cells of a grid of settings, or the model without each source."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec
from msgspec import Struct

from models import Config, ConfigError, Recommender
from models.evaluation.outcome import Outcome, differences
from streams.settings import MODEL_PREFIX, Settings, SettingsError

MOST: Final = 256
"""Variants that one command measures."""
SEGMENTS: Final = ("all", "cold user", "warm user", "cold item", "warm item")


class Variant(Struct, frozen=True):
    """A name for tables, and the model."""

    name: str
    config: Config


# ------------------------------------------------------------------------------------------------ from the command line
def configured(
    settings: Sequence[str] | None, without: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ
) -> Config:
    """The model's settings: the environment, then `name=value` each, then the sources left out. SettingsError where they are
    no settings."""
    environment = dict(environment)
    for assignment in settings or ():
        name, value = _split(assignment, "--set")
        environment[MODEL_PREFIX + name.upper()] = value
    config = Settings.load(environment).model
    if without:
        config = msgspec.structs.replace(config, without=(*config.without, *without))
    if config.sources or config.without:
        try:
            Recommender(config)
        except ConfigError as problem:  # names of sources are only known where they are built
            raise SettingsError(f"wrong settings: {problem}") from None
    return config


def grid(axes: Sequence[str], settings: Sequence[str] | None, without: Sequence[str] | None) -> list[Variant]:
    """Every combination of the values of `name=v1,v2,...`, the first axis slowest. Values with commas are separated by `;`.

    Raises:
        SettingsError: an axis is none, a value is no value of the setting, or there are more than `MOST` combinations.
    """
    parsed = [_split(axis, "--grid") for axis in axes]
    names = [name for name, _ in parsed]
    if len(set(names)) != len(names):
        raise SettingsError(f"--grid: {', '.join(names)}: name each setting once, with all its values")
    values = [_values(name, listed) for name, listed in parsed]
    cells = [
        [f"{name}={value}" for name, value in zip(names, cell, strict=True)]
        for cell in itertools.islice(itertools.product(*values), MOST + 1)
    ]
    if len(cells) > MOST:
        raise SettingsError(f"--grid: more than {MOST} combinations")
    return [Variant(" ".join(cell), configured([*(settings or ()), *cell], without)) for cell in cells]


def _values(name: str, listed: str) -> list[str]:
    values = [value.strip() for value in listed.split(";" if ";" in listed else ",") if value.strip()]
    if not values or len(set(values)) != len(values):
        raise SettingsError(f"--grid {name}={listed}: write distinct values, as in {name}=1,2 (or 1,2;3,4 for lists)")
    return values


def _split(assignment: str, option: str) -> tuple[str, str]:
    name, equals, value = assignment.partition("=")
    if not equals:
        raise SettingsError(f"{option} {assignment}: write name=value")
    return name.strip(), value.strip()


def ablation(config: Config, *, instances: bool = True) -> list[Variant]:
    """The model as it is, and without each of its sources; where one has several instances, without all of them together and,
    with `instances`, without each. `all X` goes without X and all that is X's, or reads what X has learned."""
    sources = Recommender(config).sources
    kinds = [type(source).name for source in sources]
    several = [name for name in dict.fromkeys(kinds) if kinds.count(name) > 1]
    if len(sources) == 1:
        raise SettingsError(f"--ablate: {sources[0].name} is the only source in use")
    one_by_one = [source.name for source in sources if instances or type(source).name not in several]
    variants = [Variant("everything", config)]
    for name in (*several, *one_by_one):
        without = msgspec.structs.replace(config, without=(*config.without, name))
        with suppress(ConfigError):  # nothing would be left
            gone = len(sources) - len(Recommender(without).sources)
            variants.append(Variant(f"all {name}" if gone > 1 else name, without))
    return variants


# ------------------------------------------------------------------------------------------------ what came of them
def report(variants: Sequence[Variant], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Plain data: `variants`, each with its `name`, the `report` of its pass, and in `difference` by segment and measure what it
    has more than the first one, with a standard error, paired by list and clustered by user."""
    first = outcomes[0]
    rows = [
        {
            "name": variant.name,
            "difference": {segment: _plain(outcome, first, segment) for segment in SEGMENTS},
            "report": outcome.report,
        }
        for variant, outcome in zip(variants, outcomes, strict=True)
    ]
    return {"protocol": first.report["protocol"], "scored": len(first.users), "variants": rows}


def _plain(outcome: Outcome, first: Outcome, segment: str) -> dict[str, Any] | None:
    found = differences(outcome, first, segment=segment)
    return None if found is None else {measure: msgspec.structs.asdict(change) for measure, change in found.items()}
