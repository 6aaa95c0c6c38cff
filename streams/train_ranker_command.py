"""`freshet train-ranker`: a cross-encoder for the language stage, trained on a log and measured on its end.

The log is replayed through the recommender, test then learn. Every tested list in which the user took something is an
example: the first 60 % of the tested events train, the next 15 % choose (when to stop, the weight), the last 25 % measure.
Nothing of a later part is known to an earlier one.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from models import Recommender
from models.evaluation import Plan, Protocol
from models.evaluation.metrics import MISS, clustered, rank_metrics
from models.events import Event, Item
from models.ranking_examples import Example, ranks, replay, split, thinned
from streams import ranker_training as training
from streams.convert import EventFile, EventFileError
from streams.language_ranker import RankerError, open_cross_encoder
from streams.settings import Settings, SettingsError
from streams.text_encoder import EncoderError, create_encoder, locate_model
from streams.text_vectors import SNIPPET_CHARS, TextFeed, TextVectors, environment_cache, said

SHARES: Final = (0.6, 0.15, 0.25)
"""Of the tested events, in the order of time: to train, to choose, to measure."""
WEIGHTS: Final = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
N: Final = 10

Scores = Sequence[npt.NDArray[np.float64] | None]
errors = Console(stderr=True)


def train_ranker(
    files: Annotated[list[Path], typer.Argument(help="Logs (and catalogues) of events, read one after the other.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the model; new or empty.")],
    seconds: Annotated[float, typer.Option(min=1, help="Time for training; reading before and measuring after are extra.")] = 600,
    steps: Annotated[int | None, typer.Option(min=1, help="At most so many steps.")] = None,
    base: Annotated[
        str, typer.Option(help="Weights to begin with, and encoder of the texts: as FRESHET_EMBEDDING_MODEL.")
    ] = "bundled",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps")] = "auto",
    candidates: Annotated[int, typer.Option(min=2, max=200, help="So many of the fused list are ordered.")] = 30,
    history: Annotated[int, typer.Option(min=1, max=50, help="Newest items of the user that the ranker reads about.")] = 5,
    warmup: Annotated[float, typer.Option(min=0, help="Learned without being tested: a share of the log, or events.")] = 0.1,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many events.")] = None,
    tested: Annotated[int, typer.Option(min=1, help="Lists that are ranked to choose, and to measure: an even sample.")] = 200,
    text: Annotated[bool, typer.Option("--text/--no-text", help="Item vectors for the fused list, too (cached).")] = True,
    seed: Annotated[int, typer.Option(help="Everything random derives from it.")] = 1,
    lenient: Annotated[bool, typer.Option("--lenient", help="Skip lines that are no events.")] = False,
) -> None:
    """Train a cross-encoder for the language stage on a log; prints NDCG@10 and HR@10 without and with it, as JSON."""
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise SettingsError(f"--out {out}: there is something already")
        model, torch = open_cross_encoder(locate_model(base), device)
        started = time.monotonic()
        examples = _examples(
            files, Protocol(warmup=warmup, limit=limit), candidates, history, base if text else None, device, lenient
        )
        plan = training.Plan(seconds=seconds, steps=steps, seed=seed)
        report = _train(model, torch, split(examples, SHARES), plan, tested)
        report |= {"candidates": candidates, "history": history, "base": base, "out": str(out), "device": str(model.model.device)}
        report["total_seconds"] = round(time.monotonic() - started, 1)
        out.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(str(out), safe_serialization=True)
        text_report = json.dumps(report, indent=1)
        (out / "report.json").write_text(text_report + "\n", encoding="utf-8")
    except (EventFileError, SettingsError, EncoderError, RankerError, ValueError, OSError) as problem:
        errors.print(f"[red]freshet:[/red] {escape(str(problem))}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from None
    sys.stdout.write(text_report + "\n")
    errors.print(_advice(report), highlight=False, soft_wrap=True)


# ------------------------------------------------------------------------------------------------ from the log
def _examples(
    files: Sequence[Path], protocol: Protocol, candidates: int, history: int, encoder: str | None, device: str, lenient: bool
) -> list[Example]:
    """Read, embed (with an `encoder`), replay."""
    read: list[Event | Item] = [event for path in files for event in EventFile(path, lenient=lenient)]
    plan = Plan([event for event in read if not isinstance(event, Item)], protocol)
    vectors = TextVectors(create_encoder(encoder, device=device), environment_cache()) if encoder is not None else None
    try:
        with _progress() as bar:
            feed = None
            if vectors is not None:
                texts = [words for words in map(said, read) if words]
                task = bar.add_task("embedding texts", total=len(texts))
                vectors.prefetch(texts, lambda done: bar.update(task, completed=done))
                feed = TextFeed(vectors) if texts else None
            replayed = bar.add_task("test, then learn", total=len(plan.events))
            return replay(
                Recommender(Settings.load(os.environ).model),
                plan,
                candidates=candidates,
                history=history,
                say=lambda event: said(event)[:SNIPPET_CHARS],
                vectors=feed.vectors if feed is not None else None,
                catalogue=[event for event in read if isinstance(event, Item)],
                progress=lambda done: bar.update(replayed, completed=done),
            )
    finally:
        if vectors is not None:
            vectors.close()


# ------------------------------------------------------------------------------------------------ train, choose, measure
def _train(model: Any, torch: Any, parts: Sequence[list[Example]], plan: training.Plan, tested: int) -> dict[str, Any]:
    """Train on the first part, choose on the second, measure on the third."""
    learned, chosen, measured = parts[0], thinned(parts[1], tested), thinned(parts[2], tested)
    with _progress() as bar:
        task = bar.add_task("training", total=1.0)
        trained = training.train(
            model, torch, learned, plan, _ndcg(ranks(chosen, [None] * len(chosen), 0.0)),
            lambda: _ndcg(ranks(chosen, training.score(model, torch, chosen), 1.0)),
            lambda part: bar.update(task, completed=part),
        )  # fmt: skip
        ranking = bar.add_task("measuring", total=None)
        scores = training.score(model, torch, chosen)
        weight = max(WEIGHTS, key=lambda w: (_ndcg(ranks(chosen, scores, w)), -w))
        begun = time.monotonic()
        scores = training.score(model, torch, measured, lambda done: bar.update(ranking, completed=done))
        spent = time.monotonic() - begun
    report = _measure(measured, scores, weight)
    ranked = sum(score is not None for score in scores)
    return report | {
        "weight": weight,
        "train_lists": sum(example.usable for example in learned),
        "train_events": len(learned),
        "steps": trained.steps,
        "epochs": trained.epochs,
        "best_epoch": trained.best_epoch,
        "validation_ndcg": [round(gain, 5) for gain in trained.gains],
        "train_seconds": round(trained.seconds, 1),
        "ms_per_list": round(1000 * spent / max(ranked, 1), 2),
    }


def _ndcg(found: npt.NDArray[np.int32]) -> float:
    return float(_gain(found).mean()) if len(found) else 0.0


def _gain(found: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    """NDCG@N of each event."""
    hit = (found != MISS) & (found < N)
    return np.where(hit, 1.0 / np.log2(np.where(hit, found, 0) + 2.0), 0.0)


def _measure(examples: Sequence[Example], scores: Scores, weight: float) -> dict[str, Any]:
    """The held-out end: fused, by the ranker alone, and both together; and whether together is better beyond doubt."""
    users = np.array([example.user for example in examples], np.int64)
    orders = {
        "fused": ranks(examples, [None] * len(examples), 0.0),
        "ranker_alone": ranks(examples, scores, 1.0, fused=False),
        "together": ranks(examples, scores, weight),
    }
    out: dict[str, Any] = {"tested": len(examples), "ranked": sum(score is not None for score in scores)}
    for name, found in orders.items():
        measured = rank_metrics(found, users, N)
        if measured is not None:
            out[name] = {
                f"{metric}@{N}": {"mean": round(estimate.mean, 5), "se": round(estimate.se, 5)}
                for metric, estimate in (("hr", measured.hr), ("ndcg", measured.ndcg), ("mrr", measured.mrr))
            }
    if len(examples):
        _, cluster = np.unique(users, return_inverse=True)
        gain = clustered(_gain(orders["together"]) - _gain(orders["fused"]), cluster)
        out["ndcg_gain"] = {"mean": round(gain.mean, 5), "se": round(gain.se, 5)}
        out["pays"] = bool(gain.mean > 2 * gain.se)
    return out


def _advice(report: dict[str, Any]) -> str:
    if not report.get("pays"):
        return "On the end of this log the ranker is no better than the fused order beyond two standard errors: leave it off."
    return f"Switch it on: FRESHET_RANKER={escape(report['out'])} FRESHET_RANKER_WEIGHT={report['weight']:g}"


@contextmanager
def _progress() -> Iterator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True) as bar:
        yield bar
