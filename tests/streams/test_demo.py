"""The demo: its figures by hand, its children never left behind, and the whole of it: shop, file, Ctrl-C, a worker that dies."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from models.events import POPULAR, CausedBy, Item, RecommendationList, Recommended, encode
from streams.children import Child
from streams.demo import demo
from streams.demo_expected import Expected
from streams.demo_figures import Course, Rate, Viewer
from streams.demo_page import dead_letters, line, page, summary
from streams.metrics import Metrics
from streams.scrape import Scrape, quantile, scrape
from streams.settings import Settings

PATIENCE_S = 240.0
ROOT = Path(__file__).resolve().parents[2]


def until(true: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + PATIENCE_S
    while not (answer := true()):
        assert time.monotonic() < end, what
        time.sleep(0.1)
    return answer


def read(metrics: Metrics, at: float = 0.0) -> Scrape:
    return Scrape(generate_latest(metrics.registry).decode(), at)


# ------------------------------------------------------------------------------------------------ reading metrics
def test_a_scrape_agrees_with_prometheus_own_parser() -> None:
    metrics = Metrics()
    metrics.events["clicks"].inc(3)
    metrics.freshness.observe(0.03)
    metrics.points["reviews"].set(7)
    text = generate_latest(metrics.registry).decode()
    reading = Scrape(text, 0.0)
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    assert len(samples) > 100
    for sample in samples:
        if sample.value == sample.value:  # not NaN
            same = [s for s in samples if s.name == sample.name and sample.labels.items() <= s.labels.items()]
            assert reading.total(sample.name, **sample.labels) == sum(s.value for s in same)


def test_labels_with_quotes_and_braces_are_read() -> None:
    reading = Scrape('a_total{x="1}",y="say \\"hi\\""} 4\na_total{x="2"} 1.5e1\n# HELP a_total {x="2"} 9\n', 0.0)
    assert reading.total("a_total") == 19
    assert reading.total("a_total", x="1}") == 4
    assert reading.by("a_total", "x") == {("1}",): 4.0, ("2",): 15.0}


def test_a_port_where_nobody_answers_is_no_reading() -> None:
    assert scrape("http://127.0.0.1:9/metrics", timeout_s=0.5) is None


def test_quantiles_by_hand() -> None:
    """Buckets 0.1, 0.25, 0.5: two observations in (0.1, 0.25], two in (0.25, 0.5]."""
    metrics = Metrics()
    for seconds in (0.2, 0.2, 0.3, 0.3):
        metrics.freshness.observe(seconds)
    new = read(metrics)
    name = "freshet_freshness_seconds"
    assert quantile(0.5, name, new) == pytest.approx(0.25)  # rank 2 is the end of the first
    assert quantile(0.25, name, new) == pytest.approx(0.175)  # the middle of the first
    assert quantile(0.99, name, new) == pytest.approx(0.25 + 0.25 * (3.96 - 2) / 2)
    metrics.freshness.observe(1000.0)
    assert quantile(1.0, name, read(metrics), new) == 300.0  # beyond the last edge: that edge
    assert quantile(0.5, name, new, new) is None


# ------------------------------------------------------------------------------------------------ figures over time
@pytest.fixture
def story() -> tuple[Course, Metrics]:
    """60 seconds: from second 10 on 100 items a second are shown, 2 of them clicked, from second 40 on 8."""
    metrics, course = Metrics(), Course()
    for second in range(61):
        course.add(read(metrics, float(second)))
        if 10 <= second < 60:
            metrics.events["clicks"].inc(5)
            metrics.lists["user"].inc(4)
            metrics.freshness.observe(2.0 if second < 20 else 0.007)
            metrics.shown("default", [1] * 100, "platform")
            metrics.shown("default", [1] * 1000, "served")  # not what people saw
            for _ in range(2 if second < 40 else 8):
                metrics.click("default", 1)
    return course, metrics


def test_the_click_through_rate_of_the_first_and_the_last_seconds(story: tuple[Course, Metrics]) -> None:
    course, _ = story
    assert course.window() == 15.0
    assert course.first_ctr(15.0) == Rate(2 * 15, 100 * 15)
    assert course.ctr(15.0) == Rate(8 * 15, 100 * 15)
    assert str(course.ctr(15.0)) == "8.00%"


def test_what_comes_after_closing_is_not_counted_into_the_last_seconds_of_the_shop(story: tuple[Course, Metrics]) -> None:
    course, metrics = story
    course.close()
    for second in range(61, 80):
        metrics.click("default", 1)
        course.add(read(metrics, float(second)))
    assert course.window() == 15.0
    assert course.ctr(15.0) == Rate(8 * 15, 100 * 15)


def test_two_windows_never_overlap() -> None:
    metrics, course = Metrics(), Course()
    for second in range(11):
        course.add(read(metrics, float(second)))
        metrics.shown("default", [1] * 10, "platform")
    assert course.window() == 5.0
    assert course.first_ctr(5.0).shown == course.ctr(5.0).shown == 50


def test_rates_and_freshness_look_at_the_last_seconds_only(story: tuple[Course, Metrics]) -> None:
    course, _ = story
    assert course.per_second(lambda r: r.total("freshet_events_total", topic="clicks")) == pytest.approx(5.0)
    assert course.freshness(0.99, 10) == pytest.approx(0.005 + 0.005 * 0.99)
    overall = course.freshness(0.99)
    assert overall is not None
    assert 1.0 < overall <= 2.5
    warm = course.warm_freshness(0.99)
    assert warm is not None
    assert warm < 0.01
    assert course.gained("freshet_lists_total") == 200


def test_the_readings_kept_are_bounded_and_the_beginning_is_not_forgotten() -> None:
    metrics, course = Metrics(), Course(keep=20)
    for second in range(500):
        course.add(read(metrics, float(second)))
        metrics.shown("default", [1] * 10, "platform")
        if second < 20:
            metrics.click("default", 1)
    assert course.first_ctr(15.0) == Rate(15, 150)
    assert course.ctr(15.0) == Rate(0, 150)


def test_page_line_and_summary_show_the_figures(story: tuple[Course, Metrics]) -> None:
    course, metrics = story
    metrics.points["reviews"].set(1234)
    metrics.dead_letters[next(k for k in metrics.dead_letters if k[0] == "clicks")].inc(3)
    course.add(read(metrics, 61.0))
    console = Console(width=140, record=True, file=io.StringIO())
    viewer = Viewer()
    viewer.take_list(a_record("ada", a_list("ada", "dune")))
    viewer.take_item(SimpleNamespace(key=b"dune", value=encode(Item(item_id="dune", title="Dune by Herbert"))))
    console.print(page(course, viewer, "title", "hint"))
    console.print(line(course, 61.0))
    console.print(summary(course, {"more": "said"}, with_ctr=True))
    text = console.export_text()
    for expected in ("1,234", "2.00%", "Dune by Herbert", "CTR of the last 15 s", "more", "said", "events in: clicks"):
        assert expected in text
    assert sum(dead_letters(course).values()) == 3


# ------------------------------------------------------------------------------------------------ the output topic
def a_list(user: str, *items: str) -> RecommendationList:
    lines = [Recommended(item_id=i, rank=k, score=1.0, sources={}, reasons=[]) for k, i in enumerate(items, 1)]
    cause = CausedBy(event_id="e", timestamp_ms=1)
    return RecommendationList(
        user_id=user, list_id="l", generated_at_ms=1, log_offset=1, caused_by=cause, arm="default", items=lines
    )


def a_record(user: str, value: RecommendationList | None) -> Any:
    return SimpleNamespace(key=user.encode(), value=encode(value) if value is not None else None)


def test_the_viewer_knows_who_has_no_list_yet() -> None:
    viewer = Viewer(frozenset({"ada", "bob"}))
    viewer.take_list(a_record("ada", a_list("ada", "x")))
    viewer.take_list(a_record(POPULAR, a_list(POPULAR, "x")))
    assert viewer.missing == {"bob"}


def test_the_viewer_follows_one_user_and_another_when_that_one_is_gone() -> None:
    viewer = Viewer()
    for k in range(3):
        viewer.take_list(a_record("ada", a_list("ada", f"item{k}")))
        viewer.take_list(a_record("bob", a_list("bob", "x")))
    now, before = viewer.sample() or pytest.fail("no sample")
    assert (now.user_id, now.items[0].item_id) == ("ada", "item2")
    assert before is not None
    assert before.items[0].item_id == "item1"
    for k in range(5_001):
        viewer.take_list(a_record("cyd", a_list("cyd", f"item{k}")))
    assert (viewer.sample() or pytest.fail("no sample"))[0].user_id == "cyd"


# ------------------------------------------------------------------------------------------------ files
def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_what_a_file_must_come_to(tmp_path: Path) -> None:
    """Two texts that stay (r1, its edit r3 instead of r2), a review without words, a click, a deleted review."""
    common = {"item_id": "dune", "timestamp_ms": 5}
    path = write(
        tmp_path / "f.jsonl",
        {"type": "item", "item_id": "dune", "title": "Dune"},
        {"type": "review", "event_id": "r1", "user_id": "ada", "rating": 5, "text": "good", **common},
        {"type": "review", "event_id": "r2", "user_id": "bob", "rating": 5, "text": "bad", **common},
        {"type": "review", "event_id": "r3", "user_id": "bob", "rating": 5, "text": "fair", "retracts": "r2", **common},
        {"type": "review", "event_id": "r4", "user_id": "cyd", "rating": 5, **common},
        {"type": "review", "event_id": "r5", "user_id": "dan", "rating": 5, "text": "oh", **common},
        {"type": "review", "event_id": "r6", "user_id": "dan", "retracts": "r5", **common},
        {"type": "click", "event_id": "c1", "user_id": "eve", **common},
    )
    expected = Expected.of(path)
    assert expected.events == {"items": 1, "reviews": 6, "clicks": 1}
    assert expected.points == 2
    assert expected.users == {"ada", "bob", "cyd", "dan", "eve"}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"seconds": 0.0}, "--for"),
        ({"rate": -1.0}, "--rate"),
        ({"events": Path("there is none")}, "there is none"),
        ({"events": Path(__file__)}, "no known form"),
        ({"events": Path(__file__), "seconds": 1.0}, "leave out --for"),
        ({"events": Path(__file__), "state_dir": Path(__file__).parent}, "not empty"),
        ({"state_dir": Path(__file__)}, "not a folder"),
    ],
)
def test_arguments_that_make_no_run(wrong: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo(Settings.load({}), **wrong) == 2
    assert said in capsys.readouterr().err


def test_a_file_that_does_not_fit_is_refused_before_anything_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"user_id": "u", "item_id": f"i{k}", "timestamp": k, "rating": 5, "text": f"text {k}"} for k in range(5)]
    assert demo(Settings.load({}, qdrant_local_points=4), events=write(tmp_path / "f.jsonl", *rows)) == 2
    assert "5 texts" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------ children
def test_a_child_leaves_its_words_in_a_log_and_its_exit_code(tmp_path: Path) -> None:
    child = Child("help", ["--help"], os.environ, tmp_path / "logs" / "help.log")
    assert child.process.wait(PATIENCE_S) == child.code == child.stop(5) == 0
    assert "worker" in child.tail(100)
    wrong = Child("wrong", ["no-such-command"], os.environ, tmp_path / "wrong.log")
    assert wrong.process.wait(PATIENCE_S) == wrong.stop(5) == 2


def test_no_child_outlives_a_parent_that_is_killed(tmp_path: Path) -> None:
    """The parent starts a Kafka as its child and is killed; the broker's own parent, the child, ends and so does Kafka."""
    arguments = ["kafka", "--data", str(tmp_path / "kafka")]
    script = (
        "import os, sys, time; from pathlib import Path; from streams.children import Child\n"
        f"child = Child('kafka', {arguments!r}, os.environ, Path({str(tmp_path / 'log')!r}))\n"
        "print(child.process.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    until(lambda: (tmp_path / "kafka").exists(), "the child works")
    parent.kill()
    parent.wait()
    until(lambda: not alive(pid), "the child is gone")


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"
