"""`freshet evaluate` as it is called: on a file, and in lock-step over standard input and output."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer import Typer
from typer.testing import CliRunner

from streams.evaluate_command import evaluate
from tests.public_data import DATA, needs_data

GIFT_CARDS = DATA / "amazon-gift-cards"


@pytest.fixture
def app() -> Typer:
    app = Typer()
    app.command()(evaluate)
    return app


def write(path: Path, *rows: object) -> str:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


def pairs(users: int = 30) -> list[dict[str, object]]:
    """Everybody takes one of two pairs of items: who has the one can be told the other."""
    rows: list[dict[str, object]] = []
    for k in range(users):
        for part in "ab":
            rows.append({"user_id": f"u{k}", "item_id": f"{part}{k % 2}", "timestamp": len(rows) + 1, "event_id": str(len(rows))})
    return rows


def run(app: Typer, *arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, [*arguments, "--no-text", "--json", "-"])
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_what_can_be_told_is_hit(app: Typer, tmp_path: Path) -> None:
    report = run(app, write(tmp_path / "f", *pairs()), "--n", "1", "--warmup", "20", "--set", "fusion=rrf")
    assert (report["events"], report["scored"]) == (60, 40)
    assert report["sources"]["item_cf"]["hr"] == pytest.approx(0.5)  # every second event is a user's first: nothing to go by
    assert report["segments"]["item_cf"]["warm item"]["n"] == 40
    assert report["segments"]["item_cf"]["first event"]["hr"] == 0.0


def test_sources_can_be_left_out_and_settings_changed(app: Typer, tmp_path: Path) -> None:
    file = write(tmp_path / "f", *pairs())
    report = run(app, file, "--without", "item_cf", "--without", "content", "--set", "half_lives_hours=1,2")
    assert {"item_cf", "content", "trending_720h"}.isdisjoint(report["sources"])
    assert {"user_cf", "trending_1h", "trending_2h", "fused"} <= set(report["sources"])


def test_repeats_are_recommended_only_when_they_count(app: Typer, tmp_path: Path) -> None:
    rows = [{"user_id": "a", "item_id": "x", "timestamp": k + 1, "event_id": str(k)} for k in range(10)]
    file = write(tmp_path / "f", *rows)
    assert run(app, file)["scored"] == 0
    assert run(app, file, "--repeats")["sources"]["fused"]["hr"] == pytest.approx(1.0)


def test_tables_json_and_plot(app: Typer, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the plot is an optional extra")
    file, out, plot = write(tmp_path / "f", *pairs()), tmp_path / "out.json", tmp_path / "plot.png"
    result = CliRunner().invoke(app, [file, "--no-text", "--json", str(out), "--plot", str(plot)])
    assert result.exit_code == 0, result.output
    assert "60 events, 48 scored, 4 items" in result.stdout
    assert "item_cf" in result.stdout
    assert json.loads(out.read_text())["scored"] == 48
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_log_shorter_than_its_warm_up_says_so(app: Typer, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [write(tmp_path / "f", *pairs(2)), "--no-text", "--warmup", "100"])
    assert result.exit_code == 0
    assert "Nothing was scored" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "name a file"),
        (["absent.jsonl"], "absent.jsonl"),
        (["FILE", "--set", "candidates"], "name=value"),
        (["FILE", "--set", "candidates=none"], "CANDIDATES"),
        (["FILE", "--set", "no_such=1"], "NO_SUCH"),
        (["FILE", "--without", "astrology"], "astrology"),
    ],
)
def test_mistakes_get_a_sentence(app: Typer, tmp_path: Path, arguments: list[str], complaint: str) -> None:
    file = write(tmp_path / "f", *pairs(2))
    result = CliRunner().invoke(app, [file if argument == "FILE" else argument for argument in arguments] + ["--no-text"])
    assert result.exit_code == 2
    assert complaint in result.output
    assert "Traceback" not in result.output


def test_bad_lines_are_named_or_counted(app: Typer, tmp_path: Path) -> None:
    file = write(tmp_path / "f.jsonl", *pairs(), "{torn")
    strict = CliRunner().invoke(app, [file, "--no-text"])
    assert (strict.exit_code, "f.jsonl:61" in strict.output) == (2, True)
    lenient = CliRunner().invoke(app, [file, "--no-text", "--lenient"])
    assert lenient.exit_code == 0
    assert "skipped 1 lines" in lenient.output


def test_stdio_answers_every_question_before_it_learns() -> None:
    """A process of its own, spoken to strictly in turn: were the answer not flushed, this would hang."""
    script = "import typer; from streams.evaluate_command import evaluate; typer.run(evaluate)"
    command = [sys.executable, "-c", script, "--stdio", "--no-text"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        hits = 0
        for row in pairs():
            question = {"op": "recommend", "n": 1, "event_id": row["event_id"], "user_id": row["user_id"], "timestamp": 1.0}
            process.stdin.write(json.dumps(question) + "\n")
            answer = json.loads(process.stdout.readline())
            assert answer["event_id"] == row["event_id"]
            assert len(answer["items"]) <= 1
            hits += answer["items"] == [row["item_id"]]
            process.stdin.write(json.dumps({"op": "learn", "event": row}) + "\n")
        process.stdin.close()
        assert process.wait(timeout=240) == 0
    assert hits >= 20


@needs_data
def test_real_reviews_with_their_catalogue(app: Typer) -> None:
    report = run(app, str(GIFT_CARDS / "reviews.jsonl.gz"), "--items", str(GIFT_CARDS / "items.jsonl.gz"), "--limit", "1000")
    assert (report["events"], report["ratings"]["n"]) == (1000, 800)
    assert report["sources"]["fused"]["hr"] > report["sources"]["popularity"]["hr"] * 0.9
    assert report["sources"]["fused"]["diversity"] is not None
