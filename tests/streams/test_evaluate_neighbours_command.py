"""`freshet evaluate-neighbours` as it is called."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from streams.cli import app


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["evaluate-neighbours", *arguments], env={"COLUMNS": "120"})


def opinions(path: Path, text: str = "") -> str:
    """Thirty people in two camps, each with the items of their camp in an order of their own."""
    rows = [
        {
            "user_id": f"u{user}", "item_id": f"i{2 * ((user // 2 + turn) % 5) + user % 2}", "rating": 5.0,
            "timestamp": 30 * turn + user + 1, "event_id": f"{turn}-{user}", "text": text and f"{text} {user % 2}",
        }
        for turn in range(5)
        for user in range(30)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_tables_and_json(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    result = call(opinions(tmp_path / "f"), "--no-text", "--k", "all,5,2", "--n", "3", "--json", str(out), "--jobs", "2")
    assert result.exit_code == 0, result.output
    report = json.loads(out.read_text())
    assert set(report["systems"]) == {"UserCF", "ItemCF"}  # without words there are no others
    assert list(report["systems"]["UserCF"]) == ["2", "5", "all"]
    cell = report["systems"]["ItemCF"]["5"]
    assert cell["recall"] == cell["hr"] > 0.5
    assert cell["precision"] == pytest.approx(cell["hr"] / 3)
    assert cell["f1"] == pytest.approx(cell["hr"] * 2 / 4)
    assert report["fused"]["n"] == report["scored"] == 120
    for heading in ("HR = recall", "Precision", "F1", "K=all", "fused"):
        assert heading in result.stdout


def test_words_make_four_systems(tmp_path: Path) -> None:
    result = call(opinions(tmp_path / "f", "a review about"), "--k", "5", "--no-fused", "--json", "-")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert list(report["systems"]) == ["UserCF", "T-UserCF", "ItemCF", "T-ItemCF"]
    assert report["fused"] is None


def test_nothing_to_score_is_said(tmp_path: Path) -> None:
    result = call(opinions(tmp_path / "f"), "--no-text", "--no-fused", "--warmup", "1000")
    assert result.exit_code == 0
    assert "Nothing was scored" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["absent.jsonl"], "absent.jsonl"),
        (["FILE", "--k", "five"], "whole numbers"),
        (["FILE", "--k", "0"], "at least 1"),
        (["FILE", "--k", "5,5"], "distinct"),
        (["FILE", "--text-share", "0"], "text share"),
    ],
)
def test_mistakes_get_a_sentence(tmp_path: Path, arguments: list[str], complaint: str) -> None:
    file = opinions(tmp_path / "f")
    result = call(*(file if argument == "FILE" else argument for argument in arguments), "--no-text")
    assert result.exit_code == 2
    assert complaint in result.output
    assert "Traceback" not in result.output
