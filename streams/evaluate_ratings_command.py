"""`freshet evaluate-ratings`: how well are ratings predicted? One pass, every review tested first and learned afterwards."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from models.evaluation.rating_study import StudyProtocol, Vector, study
from models.events import Review
from streams import evaluate_ratings_tables as tables
from streams.convert import EventFile, EventFileError
from streams.settings import MODEL_PREFIX, Settings, SettingsError
from streams.text_encoder import EncoderError, create_encoder
from streams.text_vectors import TextVectors, environment_cache, said

errors = Console(stderr=True)

Files = Annotated[list[Path], typer.Argument(help="Logs with ratings, read one after the other.")]
Ks = Annotated[str, typer.Option("--k", help="Numbers of neighbours, separated by commas.")]
TextShare = Annotated[float, typer.Option("--text-share", help="Part of the text in the similarities of T-UserCF and T-ItemCF.")]
TextCentred = Annotated[bool, typer.Option(help="Compare texts less what all of them have in common, or as they are.")]
Warmup = Annotated[float, typer.Option(min=0, help="Learned without being tested: a share of the reviews, or their number.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first so many reviews.")]
Text = Annotated[bool, typer.Option("--text/--no-text", help="Embed the reviews (bundled model, cached) for the T- systems.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="A setting of the model, name=value; may be repeated.")]
JsonOut = Annotated[Path | None, typer.Option("--json", help="Write the whole report to this file ('-': standard output).")]
Lenient = Annotated[bool, typer.Option("--lenient", help="Skip and count lines that are no events.")]


def evaluate_ratings(
    files: Files,
    k: Ks = "5,10,15,20,25,30",
    text_share: TextShare = 0.5,
    text_centred: TextCentred = True,
    warmup: Warmup = 0.2,
    limit: Limit = None,
    text: Text = True,
    settings: Set = None,
    json_out: JsonOut = None,
    lenient: Lenient = False,
) -> None:
    """Measure predicted ratings: MAE and RMSE of UserCF, ItemCF, T-UserCF, T-ItemCF by K, beside constants and factors."""
    try:
        protocol = StudyProtocol(ks=_numbers(k), text_share=text_share, text_centred=text_centred, warmup=warmup, limit=limit)
        report = _measure(_reviews(files, lenient), protocol, _settings(settings), text=text)
    except (EventFileError, SettingsError, EncoderError, ValueError) as problem:
        errors.print(f"[red]freshet:[/red] {escape(str(problem))}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from None
    written = json.dumps(report, indent=1) + "\n"
    if json_out is not None and str(json_out) == "-":
        sys.stdout.write(written)
        return
    if json_out is not None:
        json_out.write_text(written, encoding="utf-8")
    tables.show(report, Console())


def _numbers(listed: str) -> tuple[int, ...]:
    """The numbers of neighbours, ascending."""
    try:
        return tuple(sorted(int(part) for part in listed.split(",")))
    except ValueError:
        raise SettingsError(f"--k {listed}: write whole numbers separated by commas, as in 5,10,20") from None


def _settings(settings: Sequence[str] | None) -> Settings:
    """The environment, then `--set` for the model."""
    environment = dict(os.environ)
    for assignment in settings or ():
        name, equals, value = assignment.partition("=")
        if not equals:
            raise SettingsError(f"--set {assignment}: write name=value")
        environment[MODEL_PREFIX + name.strip().upper()] = value
    return Settings.load(environment)


def _reviews(files: Sequence[Path], lenient: bool) -> list[Review]:
    """The reviews of the files; what has no opinion in it is left out."""
    reviews: list[Review] = []
    for path in files:
        file = EventFile(path, lenient=lenient)
        reviews += (event for event in file if isinstance(event, Review))
        if file.skipped:
            errors.print(f"[yellow]{path}: skipped {file.skipped} lines; the first: {escape(str(file.first_problem))}[/yellow]")
    if not any(review.rating is not None for review in reviews):
        raise EventFileError(f"{', '.join(map(str, files))}: no ratings in it")
    return reviews


def _measure(reviews: list[Review], protocol: StudyProtocol, settings: Settings, *, text: bool) -> dict[str, Any]:
    """Embed, replay; the report."""
    reviews = reviews[: protocol.limit]
    words = {spoken for review in reviews if (spoken := said(review))} if text else set()
    vectors = TextVectors(create_encoder(**settings.encoder), environment_cache()) if words else None
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=errors, transient=True) as bar:
            if vectors is not None:
                task = bar.add_task("embedding texts", total=len(words))
                by_length = sorted(words, key=lambda spoken: (len(spoken), spoken))  # a batch costs as much as its longest text
                vectors.prefetch(by_length, lambda done: bar.update(task, completed=done))
            replay = bar.add_task("test, then learn", total=len(reviews))
            result = study(
                reviews,
                protocol,
                settings.model,
                text=_reader(vectors) if vectors is not None else None,
                progress=lambda done: bar.update(replay, completed=done) if done % 64 == 0 or done == len(reviews) else None,
            )
    finally:
        if vectors is not None:
            vectors.close()
    return result.report()


def _reader(vectors: TextVectors) -> Callable[[Review], Vector | None]:
    """A review to the unit vector of its words; None where there are none."""

    def read(review: Review) -> Vector | None:
        words = said(review)
        return vectors.of(words) if words else None

    return read
