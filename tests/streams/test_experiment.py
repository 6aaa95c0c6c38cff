"""The experiment in the simulated shop: what is counted, that it can be repeated, and that better knowledge gets more clicks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from streams.cli import app
from streams.experiment import PARTS, Played, World, experiment, play, report

SMALL = {"visits": 1_500, "shoppers": 200, "items": 60, "max_items": 80, "text": False}


def world(arm: str, seed: int = 1, **more: int) -> World:
    return World(arm=arm, seed=seed, **(SMALL | more))  # type: ignore[arg-type]


def test_the_same_world_gives_the_same_clicks() -> None:
    one, two, other = (play(world("learned", seed), lambda part: None) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.clicked, two.clicked)
    np.testing.assert_array_equal(one.shown, two.shown)
    assert one.clicked.sum() != other.clicked.sum()


def test_what_is_counted_is_what_was_shown_and_clicked() -> None:
    played = play(world("popularity"), lambda part: None)
    assert played.shown.shape[0] == PARTS
    assert played.shown.sum() <= 1_500 * 10
    assert (played.clicked <= played.shown).all()
    assert 0 < played.rate().mean < 1
    assert played.rate(PARTS // 2).mean == pytest.approx(played.clicked[10:].sum() / played.shown[10:].sum())


def test_reading_minds_is_the_ceiling() -> None:
    """No recommender, which has to learn from clicks, comes near who knows what people want."""
    popularity, learned, tastes = (play(world(arm), lambda part: None) for arm in ("popularity", "learned", "tastes"))
    assert tastes.rate().mean > 1.5 * learned.rate().mean
    assert tastes.rate().mean > 1.5 * popularity.rate().mean


def test_a_report_has_intervals_over_seeds() -> None:
    worlds = [world(arm, seed, visits=200) for seed in (1, 2) for arm in ("weighted", "popularity")]
    found = report(list(experiment(worlds)))
    assert found["seeds"] == [1, 2]
    ours, theirs = (found["rates"][arm]["whole run"]["by_seed"] for arm in ("weighted", "popularity"))
    change = found["differences"]["weighted - popularity"]["whole run"]
    by_hand = [ours[seed]["mean"] - theirs[seed]["mean"] for seed in ("1", "2")]
    assert change["mean"] == pytest.approx(np.mean(by_hand))
    assert change["low"] < change["mean"] < change["high"]
    assert len(found["curves"]["weighted"]) == PARTS
    json.dumps(found)


def test_processes_give_what_one_gives() -> None:
    worlds = [world(arm, visits=100) for arm in ("popularity", "rrf")]

    def rates(jobs: int) -> dict[str, tuple[float, float]]:
        played: list[Played] = list(experiment(worlds, jobs=jobs))
        return {one.world.arm: (one.rate().mean, one.rate().se) for one in played}

    assert rates(1) == rates(2)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--arms", "astrology"], "astrology"),
        (["--arms", "rrf,rrf"], "distinct"),
        (["--seeds", "one"], "whole numbers"),
        (["--seeds", "1,1"], "distinct"),
        (["--n", "0"], "--n"),
    ],
)
def test_mistakes_get_a_sentence(arguments: list[str], complaint: str) -> None:
    result = CliRunner().invoke(app, ["experiment", "--no-text", *arguments])
    assert result.exit_code == 2
    assert complaint in result.output
    assert "Traceback" not in result.output


def test_the_command_prints_rates_and_differences(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    arguments = ["experiment", "--no-text", "--visits", "60", "--seeds", "1,2", "--arms", "popularity,rrf", "--json", str(out)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "rrf - popularity" in result.stdout
    assert json.loads(out.read_text())["world"]["visits"] == 60
