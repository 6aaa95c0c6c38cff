"""What a demo run looks like: the live page, the line for those who have no terminal, and the summary."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from models.events import INPUTS
from streams.demo_figures import EVENTS, Course, Viewer, behind
from streams.show import list_table

_LISTS = "freshet_lists_total"
_POINTS = "freshet_qdrant_points"


def milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:,.0f} ms"


def both(p50: float | None, p99: float | None) -> str:
    return f"{milliseconds(p50)} / {milliseconds(p99)}"


def page(course: Course, viewer: Viewer, title: str, hint: str) -> RenderableType:
    """The live page: the flow's figures, and a user's list as it changes."""
    parts: list[RenderableType] = [Panel(_figures(course), title=title, title_align="left", subtitle=hint, subtitle_align="left")]
    sample = viewer.sample()
    if sample is not None:
        now, before = sample
        parts.append(list_table(now, viewer.titles, before))
    return Group(*parts)


def _figures(course: Course) -> RenderableType:
    table = Table.grid(padding=(0, 3))
    table.add_column(style="dim")
    table.add_column(justify="right")
    table.add_column(style="dim")
    table.add_column(justify="right")
    rates = {topic: course.per_second(lambda r, t=topic: r.total(EVENTS, topic=t)) for topic in INPUTS}  # type: ignore[misc]
    left = [(f"{topic}/s", f"{rates[topic]:,.0f}") for topic in ("clicks", "purchases", "reviews", "impressions")]
    left += [
        ("lists/s", f"{course.per_second(lambda r: r.total(_LISTS)):,.0f}"),
        ("texts embedded/s", f"{course.per_second(lambda r: r.total('freshet_texts_embedded_total')):,.1f}"),
    ]
    now = course.now
    lag, replica = behind(now) if now is not None else (0.0, 0.0)
    points = {c: now.total(_POINTS, collection=c) if now is not None else 0.0 for c in ("reviews", "items")}
    window = course.window()
    right = [
        ("freshness p50 / p99, last 10 s", both(course.freshness(0.5, 10), course.freshness(0.99, 10))),
        ("freshness p50 / p99, all", both(course.freshness(0.5), course.freshness(0.99))),
        (f"CTR now / in the first {window:.0f} s", f"[bold]{course.ctr(window)}[/bold] / {course.first_ctr(window)}"),
        ("vectors in Qdrant: reviews / items", f"{points['reviews']:,.0f} / {points['items']:,.0f}"),
        ("records waiting / not folded yet", f"{lag:,.0f} / {replica:,.0f}"),
        ("dead letters", f"{course.gained('freshet_dead_letters_total'):,.0f}"),
    ]
    for one, other in zip(left, right, strict=True):
        table.add_row(*one, *other)
    return table


def line(course: Course, elapsed_s: float, with_ctr: bool = True) -> str:
    """The state of a run in one line."""
    now = course.now
    if now is None:
        return f"{elapsed_s:5.0f} s  no metrics yet"
    events = course.per_second(lambda r: sum(r.total(EVENTS, topic=t) for t in ("clicks", "purchases", "reviews")), 5)
    lists = course.per_second(lambda r: r.total(_LISTS), 5)
    lag, replica = behind(now)
    return (
        f"{elapsed_s:5.0f} s  {events:,.0f} events/s  {lists:,.0f} lists/s  "
        f"freshness p50 {milliseconds(course.freshness(0.5, 5))} p99 {milliseconds(course.freshness(0.99, 5))}  "
        f"{f'CTR {course.ctr(5)}  ' if with_ctr else ''}reviews in Qdrant {now.total(_POINTS, collection='reviews'):,.0f}  "
        f"waiting {lag:,.0f}/{replica:,.0f}  dead letters {course.gained('freshet_dead_letters_total'):,.0f}"
    )


def summary(course: Course, extra: Mapping[str, str], with_ctr: bool) -> Table:
    """What a run came to."""
    table = Table("what", "figure", title="Freshet, this run", box=box.SIMPLE_HEAD, title_justify="left")
    table.columns[1].justify = "right"
    now = course.now
    for topic in INPUTS:
        if count := course.gained(EVENTS, topic=topic):
            table.add_row(f"events in: {topic}", f"{count:,.0f}")
    table.add_row("lists out", f"{course.gained(_LISTS):,.0f}")
    table.add_row("freshness p50 / p99", both(course.freshness(0.5), course.freshness(0.99)))
    if (warm := course.warm_freshness(0.99)) is not None:
        table.add_row("  after the first 15 s", both(course.warm_freshness(0.5), warm))
    dead = dead_letters(course)
    table.add_row("dead letters", f"{sum(dead.values()):,.0f}")
    for (topic, reason), count in dead.items():
        table.add_row(f"  {topic}: {reason}", f"{count:,.0f}")
    for collection in ("reviews", "items"):
        count = now.total(_POINTS, collection=collection) if now is not None else 0
        table.add_row(f"vectors in Qdrant: {collection}", f"{count:,.0f}")
    if with_ctr:
        window = course.window()
        table.add_row(f"CTR of the first {window:.0f} s", str(course.first_ctr(window)))
        table.add_row(f"CTR of the last {window:.0f} s", Text(str(course.ctr(window)), style="bold"))
    cpu = course.cpu_us_per_event()
    table.add_row("worker CPU per event, text included", "-" if cpu is None else f"{cpu:,.0f} us")
    for what, figure in extra.items():
        table.add_row(what, figure)
    return table


def dead_letters(course: Course) -> dict[tuple[str, str], float]:
    """(topic, reason) -> messages refused in this run, without zeros."""
    if course.now is None or course.first is None:
        return {}
    before = course.first.by("freshet_dead_letters_total", "topic", "reason")
    after = course.now.by("freshet_dead_letters_total", "topic", "reason")
    found = {key: count - before.get(key, 0.0) for key, count in sorted(after.items())}
    return {(key[0], key[1]): count for key, count in found.items() if count}
