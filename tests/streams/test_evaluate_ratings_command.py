"""`freshet evaluate-ratings` as it is called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from streams.cli import app


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["evaluate-ratings", *arguments], env={"COLUMNS": "100"})


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def opinions(text: str = "") -> list[dict[str, Any]]:
    """Twenty people, two camps of opposite taste over six items."""
    rows: list[dict[str, Any]] = []
    for k in range(120):
        user, item = k % 20, (k // 20 + k) % 6
        rows.append({
            "type": "review", "user_id": f"u{user}", "item_id": f"i{item}", "rating": 5 if user % 2 == item % 2 else 2,
            "timestamp": k + 1, "event_id": str(k), "text": text and f"{text} {item % 2}",
        })  # fmt: skip
    return rows


def test_tables_and_json(tmp_path: Path) -> None:
    file, out = write(tmp_path / "f.jsonl", opinions()), tmp_path / "out.json"
    result = call(file, "--k", "10,5", "--json", str(out))
    assert result.exit_code == 0, result.output
    assert "120 reviews, 96 predicted" in result.stdout
    for words in ("always the median", "river BiasedMF", "UserCF Pearson", "ItemCF adj. cosine", "K=10", "RMSE"):
        assert words in result.stdout
    assert "T-UserCF" not in result.stdout, "there are no words in the log"
    report = json.loads(out.read_text())
    assert report["protocol"]["ks"] == [5, 10]
    pearson = report["systems"]["UserCF Pearson"]
    assert pearson["with_neighbour"] > 0.5
    assert pearson["by_k"]["5"]["mae"] < 0.6 * report["baselines"]["always the median"]["mae"]


def test_words_bring_the_text_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the encoder of the settings, its cache in a folder of its own."""
    monkeypatch.setenv("FRESHET_EMBEDDING_MODEL", "hashing")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = write(tmp_path / "f.jsonl", opinions("a word about number"))
    result = call(file, "--json", "-", "--text-share", "0.3", "--limit", "60")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert {"T-UserCF cosine", "T-UserCF Pearson", "T-ItemCF cosine", "T-ItemCF adj. cosine"} <= set(report["systems"])
    assert report["protocol"]["text_share"] == 0.3
    assert (tmp_path / "freshet" / "text-vectors.sqlite").is_file()
    plain = json.loads(call(file, "--json", "-", "--text-share", "0.3", "--no-text-centred", "--limit", "60").stdout)
    assert plain["systems"]["T-UserCF cosine"] != report["systems"]["T-UserCF cosine"]
    assert plain["systems"]["UserCF cosine"] == report["systems"]["UserCF cosine"]
    without = json.loads(call(file, "--json", "-", "--no-text", "--limit", "60").stdout)
    assert not any(name.startswith("T-") for name in without["systems"])
    assert without["systems"]["UserCF cosine"] == report["systems"]["UserCF cosine"]


def test_settings_reach_the_model(tmp_path: Path) -> None:
    file = write(tmp_path / "f.jsonl", opinions())
    plain, heavy = (
        json.loads(call(file, "--json", "-", *more).stdout)["baselines"] for more in ((), ("--set", "user_shrink=5000"))
    )
    assert plain["shrunk biases"] != heavy["shrunk biases"]
    assert plain["user mean"] == heavy["user mean"]


def test_a_log_shorter_than_its_warm_up_says_so(tmp_path: Path) -> None:
    result = call(write(tmp_path / "f.jsonl", opinions()[:5]), "--warmup", "100")
    assert result.exit_code == 0
    assert "Nothing was predicted" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["FILE", "--k", "five"], "--k five"),
        (["FILE", "--k", "0,5"], "at least 1"),
        (["FILE", "--k", "5,5"], "distinct"),
        (["FILE", "--text-share", "2"], "text share"),
        (["FILE", "--set", "item_shrink"], "name=value"),
        (["FILE", "--set", "item_shrink=-1"], "ITEM_SHRINK"),
        (["absent.jsonl"], "absent.jsonl"),
        (["CLICKS"], "no ratings"),
    ],
)
def test_mistakes_get_a_sentence(tmp_path: Path, arguments: list[str], complaint: str) -> None:
    clicks = [{"user_id": "a", "item_id": "x", "timestamp": 1}]
    files = {"FILE": write(tmp_path / "f.jsonl", opinions()[:9]), "CLICKS": write(tmp_path / "c.jsonl", clicks)}
    result = call(*(files.get(argument, argument) for argument in arguments))
    assert result.exit_code == 2
    assert complaint in result.output.replace("\n", " ")
    assert "Traceback" not in result.output
