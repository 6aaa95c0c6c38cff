"""Variants beside each other: grids, ablations, and what is said about them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from models import Config, Recommender
from streams.cli import app
from streams.evaluate_variants import ablation, configured, grid
from streams.settings import SettingsError


def write(path: Path, users: int = 30) -> str:
    """Everybody takes one of two pairs of items."""
    rows = [
        {"user_id": f"u{k}", "item_id": f"{part}{k % 2}", "timestamp": 2 * k + x + 1, "event_id": f"{k}{part}"}
        for k in range(users)
        for x, part in enumerate("ab")
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def evaluate(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["evaluate", "--no-text", "--warmup", "20", *arguments], env={"COLUMNS": "150"})


def report(*arguments: str) -> dict[str, Any]:
    result = evaluate(*arguments, "--json", "-")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


# ------------------------------------------------------------------------------------------------ what is measured
def test_a_grid_is_every_combination_the_first_axis_slowest() -> None:
    cells = grid(["fusion=rrf,learned", "half_lives_hours=1,2;3"], ["candidates=20"], ["text"])
    assert [cell.name for cell in cells] == [
        "fusion=rrf half_lives_hours=1,2", "fusion=rrf half_lives_hours=3",
        "fusion=learned half_lives_hours=1,2", "fusion=learned half_lives_hours=3",
    ]  # fmt: skip
    assert cells[0].config == Config(fusion="rrf", half_lives_hours=(1.0, 2.0), candidates=20, without=("text",))


def test_ablation_leaves_out_each_source_and_each_kind_of_several() -> None:
    found = {variant.name: variant.config.without for variant in ablation(Config(half_lives_hours=(1.0, 2.0)))}
    assert next(iter(found)) == "everything"
    assert found["everything"] == ()
    assert found["all neighbours"] == ("neighbours",)
    assert found["neighbours_close"] == ("neighbours_close",)
    assert found["all trending"] == ("trending",)
    assert found["all embedding"] == ("embedding",)
    assert found["embedding_last"] == ("embedding_last",)
    assert found["all sequence"] == ("sequence",)
    assert not {"embedding", "sequence"} & set(found), "what reads from them would go as well"
    assert {"item_cf", "trending_1h", "trending_2h", "text", "proximity"} <= set(found)
    whole = {source.name for source in Recommender().sources}
    names = {source.name for source in Recommender(Config(without=("neighbours_close", "trending"))).sources}
    assert whole - names == {"neighbours_close", "trending_12h", "trending_72h", "trending_720h"}


def test_an_only_kind_is_not_left_out_as_a_whole() -> None:
    found = ablation(Config(sources=("neighbours",)))
    assert [variant.name for variant in found][1:] == ["neighbours_close", "neighbours_session"]
    assert [variant.name for variant in ablation(Config(sources=("embedding",)))][1:] == ["embedding_last"]


def test_the_environment_comes_before_the_command_line() -> None:
    environment = {"FRESHET_MODEL_CANDIDATES": "20", "FRESHET_MODEL_WITHOUT": "text"}
    config = configured(["candidates=30"], ["item_cf"], environment)
    assert (config.candidates, config.without) == (30, ("text", "item_cf"))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--grid", "fusion"], "name=value"),
        (["--grid", "fusion="], "distinct values"),
        (["--grid", "fusion=rrf,rrf"], "distinct values"),
        (["--grid", "fusion=rrf", "--grid", "fusion=learned"], "each setting once"),
        (["--grid", "fusion=rrf,magic"], "FUSION='magic'"),
        (["--grid", "candidates=" + ",".join(map(str, range(1, 300)))], "more than 256"),
        (["--grid", "fusion=rrf", "--ablate"], "one at a time"),
        (["--without", "neighbours_far"], "neighbours_close"),
        (["--set", "sources=item_cf", "--without", "item_cf"], "no source is left"),
        (["--set", "sources=item_cf", "--ablate"], "only source"),
        (["--types", "click,nod"], "nod"),
    ],
)
def test_mistakes_get_a_sentence(tmp_path: Path, arguments: list[str], complaint: str) -> None:
    result = evaluate(write(tmp_path / "f", 3), *arguments)
    assert result.exit_code == 2, result.output
    assert complaint in result.output
    assert "Traceback" not in result.output


def test_without_is_refused_by_the_settings_too() -> None:
    with pytest.raises(SettingsError, match="without"):
        configured(None, ["astrology"], {})


# ------------------------------------------------------------------------------------------------ what comes out
def test_a_grid_compares_with_its_first_cell(tmp_path: Path) -> None:
    file = write(tmp_path / "f")
    found = report(file, "--n", "1", "--grid", "sources=popularity;item_cf,popularity", "--set", "fusion=rrf")
    first, second = found["variants"]
    assert first["difference"]["all"]["hr"] == {"mean": 0.0, "se": 0.0}
    change = second["difference"]["all"]["hr"]
    rates = [row["report"]["sources"]["fused"]["hr"] for row in (first, second)]
    assert change["mean"] == pytest.approx(rates[1] - rates[0])
    assert change["mean"] > 2 * change["se"] > 0  # pairs can be told, popularity cannot tell them
    alone = report(file, "--n", "1", "--set", "sources=item_cf,popularity", "--set", "fusion=rrf")
    assert second["report"] == alone


def test_processes_give_what_one_gives(tmp_path: Path) -> None:
    arguments = (write(tmp_path / "f"), "--grid", "fusion=rrf,weighted", "--grid", "candidates=1,3")
    assert report(*arguments) == report(*arguments, "--jobs", "2")


def test_tables_of_a_grid_and_of_an_ablation(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the plot is an optional extra")
    file, plot = write(tmp_path / "f"), tmp_path / "plot.png"
    result = evaluate(file, "--grid", "fusion=rrf,learned", "--plot", str(plot))
    assert result.exit_code == 0, result.output
    assert "fusion=learned" in result.stdout
    assert plot.read_bytes().startswith(b"\x89PNG")
    result = evaluate(file, "--ablate", "--set", "sources=item_cf,popularity", "--set", "fusion=rrf", "--n", "1")
    assert result.exit_code == 0, result.output
    assert "adds HR" in result.stdout
    rows = [line.split() for line in result.stdout.splitlines() if line.split()[:1] in (["item_cf"], ["popularity"])]
    assert [row[0] for row in rows] == ["item_cf", "popularity"]  # the one that adds more first
    assert rows[0][2].startswith("+")


def test_a_log_in_which_nothing_counts_has_no_differences(tmp_path: Path) -> None:
    found = report(write(tmp_path / "f", 5), "--grid", "fusion=rrf,learned")
    assert [row["difference"]["all"] for row in found["variants"]] == [None, None]
    assert evaluate(write(tmp_path / "f", 5), "--ablate").exit_code == 0


def test_skipped_lines_are_told_once(tmp_path: Path) -> None:
    file = Path(write(tmp_path / "f"))
    file.write_text(file.read_text() + "{torn\n")
    result = evaluate(str(file), "--lenient", "--grid", "fusion=rrf,weighted", "--jobs", "2")
    assert result.exit_code == 0, result.output
    assert result.output.count("skipped 1 lines") == 1
