"""Training a ranker, for real, on small logs."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from models.ranking_examples import NOT_OFFERED, Example
from streams import ranker_training as training
from streams.cli import app
from streams.language_ranker import CrossEncoderRanker, open_cross_encoder
from streams.text_encoder import locate_model

DRUMS = ["snare drum", "drum sticks", "hi-hat cymbal", "bass drum pedal", "drum throne"]
TEAS = ["green tea", "black tea", "tea pot", "tea cups", "herbal tea"]


@pytest.fixture
def encoder() -> tuple[Any, Any]:
    """A cross-encoder with a new head, and torch."""
    import torch

    torch.manual_seed(3)
    torch.set_num_threads(1)
    return open_cross_encoder(locate_model("bundled"), "cpu")


def lists(count: int, seed: int) -> list[Example]:
    """Who took drums takes a drum, who took tea takes tea; the fused order knows nothing of it."""
    rng = random.Random(seed)
    out = []
    for user in range(count):
        own, other = (DRUMS, TEAS) if user % 2 else (TEAS, DRUMS)
        query, taken = rng.sample(own, 2)
        candidates = [taken, *rng.sample(other, 3)]
        rng.shuffle(candidates)
        out.append(Example(user, candidates.index(taken), query, tuple(candidates), (0.25,) * 4))
    return out


def margin(model: Any, torch: Any, examples: list[Example]) -> float:
    """How far the taken one is above the mean of the list."""
    scores = training.score(model, torch, examples)
    return float(np.mean([s[e.taken] - s.mean() for e, s in zip(examples, scores, strict=True) if s is not None]))


def test_training_learns_what_the_texts_tell(encoder: tuple[Any, Any]) -> None:
    model, torch = encoder
    unseen = lists(10, seed=9)
    before = margin(model, torch, unseen)
    plan = training.Plan(seconds=100_000, steps=8, lists=6, rate=3e-4)
    trained = training.train(model, torch, lists(24, seed=1), plan, 0.0, lambda: margin(model, torch, unseen))
    assert trained.steps == 8
    assert trained.epochs == 2
    assert len(trained.gains) == 3
    assert margin(model, torch, unseen) == pytest.approx(max(trained.gains[1:]), abs=1e-4)  # the best epoch's weights are kept
    assert margin(model, torch, unseen) > before + 0.5


def test_without_a_better_epoch_the_model_stays_as_it_was(encoder: tuple[Any, Any]) -> None:
    model, torch = encoder
    before = {name: value.clone() for name, value in model.model.state_dict().items()}
    trained = training.train(model, torch, lists(4, seed=1), training.Plan(steps=2, lists=2), 1.0, lambda: 0.5)
    assert (trained.steps, trained.best_epoch) == (2, 0)
    assert all(torch.equal(value, before[name]) for name, value in model.model.state_dict().items())


def test_a_log_without_examples_is_refused(encoder: tuple[Any, Any]) -> None:
    with pytest.raises(ValueError, match="no list to learn from"):
        training.train(*encoder, [Example(0, NOT_OFFERED)], training.Plan(), 0.0, lambda: 0.0)


def test_candidates_without_text_get_the_mean_and_lists_without_are_left_out(encoder: tuple[Any, Any]) -> None:
    example = Example(0, 0, "drums", ("snare", "", "tea"), (0.5, 0.3, 0.2))
    scores, nothing = training.score(*encoder, [example, Example(0, 1, "", ("a", "b"), (0.6, 0.4))])
    assert nothing is None
    assert scores is not None
    assert scores[1] == pytest.approx((scores[0] + scores[2]) / 2, abs=1e-6)


# ------------------------------------------------------------------------------------------------ the command
def write_log(path: Path) -> str:
    """Users of one taste each, reviewing in turn."""
    rng, rows = random.Random(1), []
    for k in range(90):
        user = k % 18
        names = DRUMS if user % 2 else TEAS
        item = names[(k // 18 + rng.randrange(2)) % 5]
        rows.append(
            {"reviewerID": f"u{user}", "asin": item.replace(" ", "-"), "overall": 5.0, "reviewText": f"A fine {item}.",
             "summary": item, "unixReviewTime": 1_400_000_000 + 86_400 * k}
        )  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_the_command_trains_saves_and_measures(tmp_path: Path) -> None:
    out = tmp_path / "ranker"
    arguments = [write_log(tmp_path / "log.jsonl"), "--out", str(out), "--no-text", "--device", "cpu", "--candidates", "6"]
    result = CliRunner().invoke(app, ["train-ranker", *arguments, "--steps", "2", "--seconds", "100000", "--tested", "6"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report == json.loads((out / "report.json").read_text())
    assert report["steps"] == 2
    assert report["train_lists"] > 8
    assert 0 < report["ranked"] <= 6
    for order in ("fused", "ranker_alone", "together"):
        assert (
            0 <= report[order]["ndcg@10"]["mean"] <= report[order]["hr@10"]["mean"] <= report["ranked"] / report["tested"] + 1e-5
        )
    assert report["fused"]["hr@10"] == report["together"]["hr@10"]  # lists of six: whatever the order, it is among the first ten
    gain = report["together"]["ndcg@10"]["mean"] - report["fused"]["ndcg@10"]["mean"]
    assert report["ndcg_gain"]["mean"] == pytest.approx(gain, abs=2e-5)
    assert not any(path.suffix in (".bin", ".pt", ".pkl") for path in out.rglob("*"))
    assert (out / "model.safetensors").is_file()
    ranker = CrossEncoderRanker(str(out), device="cpu")
    ranker.load()
    model, torch = open_cross_encoder(out, "cpu")
    example = Example(0, 0, "drums", ("a snare", "a long text about tea " * 30), (0.5, 0.5))
    (expected,) = training.score(model, torch, [example])
    assert expected is not None
    assert ranker.rank(example.query, example.candidates) == pytest.approx(expected.tolist(), abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{log}", "--out", "{full}"], "there is something already"),
        (["{log}", "--out", "{new}", "--base", "/nowhere/at/all"], "no model"),
        (["/nowhere.jsonl", "--out", "{new}"], "nowhere"),
    ],
)
def test_what_cannot_work_is_said(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    places = {"log": write_log(tmp_path / "log.jsonl"), "full": str(tmp_path / "full"), "new": str(tmp_path / "new")}
    result = CliRunner().invoke(app, ["train-ranker", *(a.format(**places) for a in arguments), "--no-text", "--device", "cpu"])
    assert result.exit_code == 2
    assert message in result.output
    assert not (tmp_path / "new").exists()
