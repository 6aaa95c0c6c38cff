"""Parameters: documented, bounded, refused with a sentence."""

from __future__ import annotations

from typing import get_args, get_type_hints

import msgspec
import pytest

from models import Config, ConfigError


def test_every_parameter_is_documented_and_numbers_are_bounded() -> None:
    hints = get_type_hints(Config, include_extras=True)
    for field in msgspec.structs.fields(Config):
        kind, *metas = get_args(hints[field.name])
        [meta] = [m for m in metas if isinstance(m, msgspec.Meta)]
        assert meta.description, field.name
        if kind in (int, float):
            assert meta.le is not None, field.name
            assert meta.ge is not None or meta.gt is not None, field.name


def test_the_defaults_are_within_their_bounds_and_survive_a_round_trip() -> None:
    config = Config()
    assert msgspec.convert(msgspec.to_builtins(config), Config) == config


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({"window_events": 7}, "window_events=7: must be at least 8"),
        ({"item_cf_decay": 0}, "item_cf_decay=0: must be above 0"),
        ({"positive_rating": 5.5}, "positive_rating=5.5: must be at most 5"),
        ({"alpha": float("nan")}, "alpha=nan: a finite number"),
        ({"max_users": "many"}, "max_users='many': a number"),
        ({"half_lives_hours": ()}, "1 to 8 half-lives"),
        ({"half_lives_hours": (1.0, 1.0)}, "distinct"),
        ({"half_lives_hours": (-1.0,)}, "between 0.01"),
        ({"fusion": "weighted", "alpha": 0, "beta": 0, "gamma": 0}, "all 0"),
    ],
)
def test_what_is_out_of_bounds_is_refused(parameters: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        Config(**parameters)  # type: ignore[arg-type]
