"""`freshet quality`: passes are kept and found again, figures on the page are those of the passes, mistakes get a sentence."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from models import Config
from models.evaluation import Protocol
from models.evaluation.metrics import MISS
from models.evaluation.outcome import Outcome
from streams import quality_passes as passes
from streams.cli import app
from streams.evaluate_passes import Spec
from streams.quality_logs import LOGS, own
from streams.quality_page import Measured, page
from streams.quality_passes import PARTS
from streams.quality_store import Store, key, packed, unpacked
from tests.public_data import DATA, needs_data

DAY = 86_400


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a small log of reviews where the one of gift cards would be, and none of the others."""
    data = tmp_path / "data" / "amazon-gift-cards"
    data.mkdir(parents=True)
    rows = [
        {
            "reviewerID": f"u{user}", "asin": f"i{2 * ((user // 2 + turn) % 6) + user % 2}", "overall": 5.0,
            "unixReviewTime": DAY * (30 * turn + user + 1), "reviewText": "",
        }
        for turn in range(6)
        for user in range(30)
    ]  # fmt: skip
    with gzip.open(data / "reviews.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FRESHET_DATA", str(tmp_path / "data"))
    return tmp_path


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["quality", *arguments])


# ------------------------------------------------------------------------------------------------ the command
def test_a_page_with_everything_from_a_small_log(here: Path) -> None:
    result = call("--page", "page.md", "--json", "out.json", "--jobs", "2")
    assert result.exit_code == 0, result.output
    assert result.output.count("skipped") == 4
    reports, text = json.loads((here / "out.json").read_text()), (here / "page.md").read_text()
    fused, inside = reports["gift-cards/fused"]["sources"]["fused"], reports["gift-cards/sources"]["sources"]["fused"]
    assert fused["hr"] == inside["hr"] > 0.2  # asked from outside and from inside alike
    assert f"{fused['hr']:.4f}".removeprefix("0") in text
    assert "gives the same lists everywhere" in text
    assert "MovieLens 100K (its files were not there)" in text
    for heading in ("The fused list", "Against the best single source", "Cold users", "What each source adds", "Peers"):
        assert f"\n## {heading}\n" in text
    assert "| `neighbours_close` | " in text
    assert {f"gift-cards/{part}" for part in (*list(PARTS)[:4], "ablation:item_cf", "ablation:all neighbours")} <= set(reports)
    assert "gift-cards/ablation:content" not in reports  # without a catalogue it has nothing to say, and is not left out


def test_what_was_measured_once_is_not_measured_again(here: Path) -> None:
    assert call("--only", "sources").exit_code == 0
    [kept] = (here / ".freshet/quality").glob("*.npz")
    marked = msgspec.structs.replace(unpacked(kept.read_bytes()), report={"sources": {}, "marked": True})
    kept.write_bytes(packed(marked))
    assert call("--only", "sources", "--json", "out.json").exit_code == 0
    assert json.loads((here / "out.json").read_text())["gift-cards/sources"] == {"sources": {}, "marked": True}
    assert call("--only", "sources", "--json", "out.json", "--fresh").exit_code == 0
    assert json.loads((here / "out.json").read_text())["gift-cards/sources"]["scored"] == 144
    kept.write_bytes(b"torn")
    assert call("--only", "sources", "--json", "out.json").exit_code == 0
    assert json.loads((here / "out.json").read_text())["gift-cards/sources"]["scored"] == 144


def test_a_change_is_held_against_what_was_kept(here: Path) -> None:
    assert call("--keep", "before", "--limit", "100").exit_code == 0
    same = call("--against", "before", "--limit", "100")
    assert "no difference" in same.stdout
    changed = call("--against", "before", "--limit", "100", "--set", "fusion=rrf")
    assert "less what was kept as before" in changed.stdout
    other = call("--against", "before", "--limit", "90")
    assert other.exit_code == 2
    assert "same events" in other.output


def test_a_log_of_ones_own(here: Path) -> None:
    log = here / "my log.jsonl"
    rows = [{"user_id": f"u{k % 9}", "item_id": f"i{k % 4}", "timestamp": k + 1, "event_id": str(k)} for k in range(90)]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = call(str(log), "--repeats", "--page", "own.md", "--only", "sources,plain,newcomers")
    assert result.exit_code == 0, result.output
    text = (here / "own.md").read_text()
    assert "my log.jsonl" in text
    assert "own items may come again" in text
    assert "Peers" not in text
    assert "Not measured" not in text


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--logs", "netflix"], "movielens-100k"),
        (["--only", "astrology"], "choose from"),
        (["--logs", "alibaba"], "none of the logs is there"),
        (["--set", "fusion"], "name=value"),
        (["--against", "nothing"], "nothing was kept"),
        (["--keep", "../up", "--limit", "50"], "letters"),
        (["absent.jsonl"], "absent.jsonl"),
    ],
)
def test_mistakes_get_a_sentence(here: Path, arguments: list[str], complaint: str) -> None:
    result = call(*arguments)
    assert result.exit_code == 2, result.output
    assert complaint in result.output
    assert "Traceback" not in result.output


# ------------------------------------------------------------------------------------------------ the store
def outcome(**ranks: list[int]) -> Outcome:
    """Six tests: user 0 is cold before the first two; the items of the third and fourth are cold."""
    return Outcome(
        n=10, ranks={name: np.array(of, np.int32) for name, of in ranks.items()}, users=np.array([0, 0, 1, 1, 2, 2]),
        user_events=np.array([0, 1, 7, 8, 9, 9]), item_events=np.array([9, 9, 2, 4, 9, 9]),
        report={"events": 100, "items": 20, "scored": 6, "protocol": {"warmup": 0.2}},
    )  # fmt: skip


def test_an_outcome_survives_the_store(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("x")
    spec = Spec(files=(tmp_path / "log",), protocol=Protocol(kinds=frozenset({"click", "review"})), config=Config())
    store, kept = Store(tmp_path / "store"), outcome(fused=[0, 1, MISS, 3, 4, MISS], other=[MISS] * 6)
    assert store.get(spec) is None
    store.put(spec, kept)
    found = store.get(spec)
    assert found is not None
    assert (found.n, found.report, list(found.ranks)) == (kept.n, kept.report, list(kept.ranks))
    np.testing.assert_array_equal(found.ranks["fused"], kept.ranks["fused"])
    np.testing.assert_array_equal(found.item_events, kept.item_events)


def test_a_pass_is_known_by_everything_it_depends_on(tmp_path: Path) -> None:
    one, two, copy = (tmp_path / name for name in ("one", "two", "copy"))
    for path, text in ((one, "x"), (two, "y"), (copy, "x")):
        path.write_text(text)
    spec = Spec(files=(one,), protocol=Protocol(), config=Config())
    replace = msgspec.structs.replace
    others = [
        replace(spec, files=(two,)), replace(spec, files=(one, two)), replace(spec, catalogues=(two,)),
        replace(spec, protocol=Protocol(n=11)), replace(spec, protocol=Protocol(kinds=frozenset({"click"}))),
        replace(spec, config=Config(fusion_rate=0.07)), replace(spec, text=False), replace(spec, way="lockstep"),
        replace(spec, neighbourhoods=passes.PLAIN_ITEM_CF),
    ]  # fmt: skip
    assert len({key(each) for each in (spec, *others)}) == 1 + len(others)
    assert key(replace(spec, files=(copy,))) == key(spec)  # where it lies is not what it is


# ------------------------------------------------------------------------------------------------ the page
def written(**parts: Any) -> str:
    log = own(Path("shop.jsonl"), Protocol(), text=False)
    log = msgspec.structs.replace(log, goals=parts.pop("goals", {}))
    given: dict[str, Any] = {"sources": None, "fused": None, "plain": None, "unseated": None, "without": {}} | parts
    return page([Measured(log=log, **given)], {}, "0123456789abcdef", None)


def row_of(text: str, heading: str) -> list[str]:
    section = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    return [cell.strip() for cell in re.findall(r"^\| shop.*$", section, re.M)[0].strip("|").split("|")]


def test_goals_are_judged_by_the_figures() -> None:
    fused = outcome(fused=[0, 0, 0, MISS, MISS, MISS])  # HR .5
    for goal, verdict in (
        ((0.5, 0.6), "HR .5000: passed"),
        ((0.4, 0.5), "passed, and beyond .5000"),
        ((0.6, 0.7), "missed by 0."),
    ):
        assert verdict in row_of(written(fused=fused, goals={"hr": goal}), "The fused list")[-1]


def test_the_best_single_source_is_the_best_of_its_segment() -> None:
    lists = outcome(fused=[MISS, MISS, 0, 0, 0, 0], a=[0, 0, MISS, MISS, MISS, MISS], b=[MISS, MISS, 0, 0, 0, MISS])
    text = written(sources=lists, fused=lists)
    assert row_of(text, "Against the best single source")[1] == "`b`"
    cold = row_of(text, "Cold users")
    assert cold[1] == "`a`"
    assert cold[4].startswith("-1.0000")
    assert cold[6] == "**below**"


def test_cold_items_are_held_against_plain_item_cf() -> None:
    """Fused hits one of two cold items, plain ItemCF both; the place for newcomers costs nothing, then one of five."""
    with_place, without = outcome(fused=[0, 0, 0, MISS, 0, MISS]), outcome(fused=[0, 0, MISS, 0, 0, MISS])
    plain = outcome(**{"ItemCF K=all": [MISS, MISS, 0, 0, MISS, MISS]})
    row = row_of(written(sources=with_place, fused=with_place, plain=plain, unseated=without), "Cold items")
    assert row[1] == "2"
    assert row[4:6] == ["50%", "reached"]
    assert row[-2:] == ["+0.00%", "within"]
    without.ranks["fused"][2] = 0
    row = row_of(written(sources=with_place, fused=with_place, plain=plain, unseated=without), "Cold items")
    assert row[-2:] == ["+20.00%", "**too much**"]


def test_what_a_source_adds_is_what_is_lost_without_it() -> None:
    whole, without = outcome(fused=[0, 0, 0, 0, 0, 0]), outcome(fused=[MISS, 0, 0, MISS, 0, MISS])
    text = written(sources=whole, without={"item_cf": without, "content": whole})
    found, order = re.findall(r"^\| `item_cf` \| (.*) \|$", text, re.M)
    assert found == order == "**+.5000 ± .0000**"  # one of two lists of each user, and what is found is first
    assert re.search(r"^\| `content` \| 0 \|$", text, re.M)


def test_lists_that_differ_between_the_two_ways_are_said() -> None:
    text = written(sources=outcome(fused=[0] * 6), fused=outcome(fused=[0, 0, 0, 0, 1, MISS]))
    assert "ranks differently on shop.jsonl (2 of 6 lists)" in text


# ------------------------------------------------------------------------------------------------ the public logs
@needs_data
@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.name)
def test_the_protocols_of_the_public_logs_score_what_they_say(log: Any) -> None:
    """Numbers of scored events as they were counted by another program (of Yoochoose also in the literature)."""
    from models.evaluation import Plan
    from streams.evaluate_passes import Log

    plan = Plan(Log(log.paths(DATA)).events, log.protocol)
    events, scored = SCORED[log.name]
    assert len(plan.events) == events
    assert len(plan.scored) == scored


SCORED = {
    "movielens-100k": (55_375, 44_300), "musical-instruments": (10_261, 7_219), "gift-cards": (2_972, 2_318),
    "alibaba": (85_030, 44_493), "yoochoose": (83_846, 10_152),
}  # fmt: skip
