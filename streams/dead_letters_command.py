"""`freshet dead-letters`: look at what was refused, and put it back."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.markup import escape

from models.events import INPUTS, Reason
from streams import clock, logs, topics
from streams.dead_letters import DeadLetter, iter_dead_letters
from streams.put_back import Outcome, PutBackError, from_file, lines_of, put_back, wanted
from streams.settings import Settings, SettingsError

SHOWN = 50


def dead_letters(
    follow: Annotated[bool, typer.Option("--follow", help="wait for more")] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, max=100_000, help="the newest so many (shown: 50; put back: all)")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="one JSON object per line, values in base64")] = False,
    reason: Annotated[str | None, typer.Option("--reason", help="only those refused for it (docs/events.md)")] = None,
    topic: Annotated[str | None, typer.Option("--topic", help="only those of this input topic, such as clicks")] = None,
    hours: Annotated[float | None, typer.Option("--hours", min=0.0, help="only those of the last hours")] = None,
    replay: Annotated[bool, typer.Option("--replay", help="put back what would be accepted now")] = False,
    mended: Annotated[
        Path | None,
        typer.Option("--from", help="with --replay: mended lines of --json instead of the topic; - for standard input"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="with --replay: only say what would be put back")] = False,
    bootstrap: Annotated[str | None, typer.Option("--bootstrap", help="Kafka brokers [FRESHET_BOOTSTRAP]")] = None,
) -> None:
    """Show refused messages: why, where they came from, how they begin. With --replay, put them back where they came from."""
    stderr = Console(stderr=True)
    try:
        loaded = _settings(bootstrap)
        _check(reason, topic, follow=follow, replay=replay, needs_replay=mended is not None or dry_run)
        with topics.admin(loaded.connection, timeout_s=5.0):
            pass  # a clear sentence where there is no Kafka
        letters: Iterable[DeadLetter] = (
            from_file(lines_of(mended))
            if mended is not None
            else iter_dead_letters(
                loaded.connection,
                loaded.topic("dead-letters"),
                follow=follow,
                limit=limit if replay or limit is not None or reason or topic or hours else SHOWN,
            )
        )
        since = None if hours is None else clock.now_ms() - int(hours * 3_600_000)
        chosen = wanted(letters, reason=reason, topic=loaded.topic(topic) if topic else None, since_ms=since)
        if replay:
            _tell(put_back(loaded, chosen, dry_run=dry_run), dry_run=dry_run)
        else:
            _show(chosen, json=json)
    except (KeyboardInterrupt, BrokenPipeError):
        return
    except SettingsError as problem:
        stderr.print(f"[red]freshet:[/red] {escape(str(problem))}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from None
    except (LookupError, TimeoutError, topics.TopicsError, PutBackError) as problem:
        stderr.print(f"[red]freshet:[/red] {escape(str(problem))}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None


def _settings(bootstrap: str | None) -> Settings:
    loaded = Settings.load(os.environ, bootstrap=bootstrap)
    logs.configure(loaded.log_level, json=loaded.log_json)
    return loaded


def _check(reason: str | None, topic: str | None, *, follow: bool, replay: bool, needs_replay: bool) -> None:
    """SettingsError for options that do not go together or say nothing."""
    if reason is not None and reason not in {one.value for one in Reason}:
        raise SettingsError(f"--reason {reason}: choose from {', '.join(one.value for one in Reason)}")
    if topic is not None and topic not in INPUTS:
        raise SettingsError(f"--topic {topic}: choose from {', '.join(INPUTS)}")
    if follow and replay:
        raise SettingsError("--follow with --replay: what is refused again would be put back for ever")
    if needs_replay and not replay:
        raise SettingsError("--from and --dry-run go with --replay")


def _show(letters: Iterable[DeadLetter], *, json: bool) -> None:
    out = Console()
    for letter in letters:
        if json:
            sys.stdout.buffer.write(msgspec.json.encode(letter) + b"\n")
            sys.stdout.flush()
            continue
        origin = f"{letter.source_topic}/{letter.source_partition}/{letter.source_offset}"
        begins = (letter.value or b"")[:60].decode("ascii", errors="backslashreplace")
        out.print(f"[bold]{letter.reason}[/bold] {escape(origin)}  {escape(letter.detail or '')}", highlight=False)
        out.print(f"    {escape(begins)!s}", style="dim", highlight=False)


def _tell(outcome: Outcome, *, dry_run: bool) -> None:
    out = Console()
    word = "would be put back" if dry_run else "put back"
    for topic, count in sorted(outcome.sent.items()):
        out.print(f"{topic}: {count:,} {word}", highlight=False)
    for why, count in sorted(outcome.left.items()):
        out.print(f"left: {count:,} {_WHY.get(why, f'would be refused again ({why})')}", highlight=False)
    if not outcome.sent and not outcome.left:
        out.print("there are no such dead letters", highlight=False)


_WHY: dict[str, Any] = {
    "truncated": "of which only the beginning was kept",
    "unknown_origin": "that came from no input topic of ours",
}
