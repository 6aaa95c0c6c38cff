"""The pages under docs/ are true: generated parts are as generated, contracts as coded, examples decode."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema
import msgspec
import pytest

from deploy import docs
from deploy.docs import DOCS, ROOT, between, rendered, schemas
from deploy.inventory import exported
from models import Config, events
from models.events import INPUTS, Limits, Reason, Refusal
from streams import topics
from streams.dead_letters import dead_letter
from streams.settings import Settings, describe
from tests.deploy.rule_files import recorded

NOW_MS = 1_800_000_000_000
EVENTS_PAGE = (DOCS / "events.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```json (\S+)\n(.*?)^```", EVENTS_PAGE, re.M | re.S)
_KEYS: dict[str, Any] = {"event_id": "e", "user_id": "u", "item_id": "i", "timestamp_ms": 1}
EXACT: dict[str, msgspec.Struct] = {
    "clicks": events.Click(**_KEYS, list_id="l", position=2, context={"a": "b"}),
    "purchases": events.Purchase(**_KEYS, quantity=2, price=0.5, retracts="x"),
    "reviews": events.Review(**_KEYS, rating=4.5, text="t", session_id="s"),
    "impressions": events.Impression(event_id="e", user_id="u", list_id="l", items=["a", "b"], timestamp_ms=1, surface="home"),
    "items": events.Item(item_id="i", title="t", categories=["a"], price=1.0, available=False),
    "erasures": events.Erasure(request_id="r", user_id="u", timestamp_ms=1),
    "interactions": events.Interaction(**_KEYS, kind="click", received_ms=2),
    "item-texts": events.ItemText(kind="review", source_id="s", item_id="i", user_id="u", rating=1.0, text="t"),
    "item-vectors": events.ItemVector(item_id="i", vector=bytes(4), texts=1, model="m"),
    "review-vectors": events.ReviewVector(event_id="e", user_id="u", vector=bytes(4), model="m"),
    "recommendations": events.RecommendationList(
        user_id="u",
        list_id="l",
        generated_at_ms=1,
        log_offset=2,
        caused_by=events.CausedBy(event_id="e", timestamp_ms=1),
        arm="a",
        items=[
            events.Recommended(
                item_id="i", rank=1, score=0.5, sources={"text": 0.5}, reasons=[events.Evidence(kind="text", weight=0.5)]
            )
        ],
    ),
}
"""A message of each topic, as our own encoder writes it."""


def validator(topic: str) -> Any:
    return jsonschema.Draft202012Validator(schemas()[topic])


# ------------------------------------------------------------------------------------------------ generated pages
@pytest.mark.parametrize("path", list(rendered()), ids=lambda path: str(path.relative_to(ROOT)))
def test_generated_pages_are_up_to_date(path: Any) -> None:
    """Else: make docs"""
    assert path.read_text(encoding="utf-8") == rendered()[path]


def test_between_replaces_only_what_is_between() -> None:
    page = "a\n<!-- generated: t -->\nold\n<!-- end: t -->\nb\n"
    assert between(page, "t", "new\n") == "a\n<!-- generated: t -->\nnew\n<!-- end: t -->\nb\n"
    with pytest.raises(ValueError, match="once each"):
        between(page, "other", "new\n")


def first_column(page: str, marker: str) -> list[str]:
    table = page.split(f"<!-- generated: {marker} -->")[1].split(f"<!-- end: {marker} -->")[0]
    return re.findall(r"^\| `(\w+)`", table, re.M)


def test_settings_page_has_every_setting_with_its_default() -> None:
    page = (DOCS / "settings.md").read_text(encoding="utf-8")
    assert first_column(page, "settings") == [variable for variable, *_ in describe()]
    assert first_column(page, "model settings") == [f"FRESHET_MODEL_{field.upper()}" for field in Config.__struct_fields__]
    for variable, _, default, meaning in describe():
        (line,) = [line for line in page.splitlines() if line.startswith(f"| `{variable}`")]
        assert meaning.replace("|", "\\|") in line
        assert (f"`{default.lower() if default in ('True', 'False') else default}`" if default else "empty") in line


def test_metrics_page_has_every_metric_and_no_other() -> None:
    page = (DOCS / "metrics.md").read_text(encoding="utf-8")
    assert first_column(page, "metrics") == [metric.name for metric in exported()]
    assert len(set(first_column(page, "metrics"))) > 30
    named = set(re.findall(r"`(freshet_\w+)", page))
    assert named == {metric.name for metric in exported() if metric.name.startswith("freshet_")}


def test_metrics_page_names_every_recorded_series() -> None:
    page = (DOCS / "metrics.md").read_text(encoding="utf-8")
    in_rows = re.findall(r"^\| (`job\S*:.*?) \|", page, re.M)
    named = set()
    for row in in_rows:
        full, *rest = re.findall(r"`(.+?)`", row)
        stem = re.sub(r"(ratio_rate|rate|p50|p99)[\w]*$", "", full)
        kind = full.removeprefix(stem)
        named |= {full, *(stem + end.lstrip(":") if end.startswith(":") else stem + re.sub(r"\d+\w$", end, kind) for end in rest)}
    assert named == set(recorded())


# ------------------------------------------------------------------------------------------------ schemas
def test_every_topic_has_a_schema() -> None:
    assert set(schemas()) == set(topics.ALL)
    assert {path.stem for path in (DOCS / "schemas").glob("*.json")} == set(topics.ALL)


@pytest.mark.parametrize("topic", list(schemas()))
def test_schemas_are_schemas(topic: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schemas()[topic])


@pytest.mark.parametrize("topic", list(EXACT))
def test_what_we_encode_obeys_its_schema(topic: str) -> None:
    validator(topic).validate(json.loads(events.encode(EXACT[topic])))


@pytest.mark.parametrize("topic", list(INPUTS))
def test_schema_and_decoder_agree_on_fields(topic: str) -> None:
    """Without any one field, with a wrong type in it, with an unknown one: both accept or both refuse."""
    whole = json.loads(events.encode(EXACT[topic]))
    variants = [{**whole, "unknown": 1}]
    for name in whole:
        variants.append({key: value for key, value in whole.items() if key != name})
        variants += [{**whole, name: wrong} for wrong in (None, [], 7, "text", {}, -1, 0)]
    verdicts = set()
    for variant in variants:
        event = events.decode(topic, json.dumps(variant).encode(), now_ms=NOW_MS)
        refused = isinstance(event, Refusal) and event.reason is Reason.INVALID_FIELD
        assert validator(topic).is_valid(variant) is not refused, (variant, event)
        verdicts.add(refused)
    assert verdicts == {True, False}


def test_dead_letters_headers_obey_their_schema() -> None:
    class Record:
        partition, offset, key, value, timestamp = 3, 14, b"k" * 5_000, b"x" * 100, 1

    *_, headers = dead_letter(Record(), "clicks", Refusal(Reason.INVALID_JSON, "é" * 600), NOW_MS, max_bytes=50)
    texts = {name: value.decode() for name, value in headers}
    assert {"truncated", "key-truncated"} <= set(texts)
    validator("dead-letters").validate(texts)
    assert not validator("dead-letters").is_valid({**texts, "reason": "a word of nobody's"})


# ------------------------------------------------------------------------------------------------ the contract page
def test_there_is_an_example_of_every_topic_that_others_touch() -> None:
    assert {topic for topic, _ in EXAMPLES} == {*INPUTS, "recommendations"}


@pytest.mark.parametrize(("topic", "text"), EXAMPLES)
def test_examples_are_valid(topic: str, text: str) -> None:
    validator(topic).validate(json.loads(text))
    if topic in INPUTS:
        event = events.decode(topic, text.encode(), now_ms=NOW_MS)
        assert isinstance(event, INPUTS[topic])
        assert set(json.loads(text)) <= set(event.__struct_fields__), "an example with a field that is ignored"
    else:
        served = msgspec.json.decode(text, type=events.RecommendationList)
        for item in served.items:
            assert sum(item.sources.values()) == pytest.approx(item.score)
            assert sum(reason.weight for reason in item.reasons) == pytest.approx(item.score)


def test_examples_of_taking_back_do_what_the_table_says() -> None:
    edit, deletion = (events.decode(t, text.encode(), now_ms=NOW_MS) for t, text in EXAMPLES if '"retracts"' in text)
    kinds = [events.Interaction.of(event).kind for event in (edit, deletion) if isinstance(event, events.Review)]
    assert kinds == ["review", "retraction"]


def test_every_topic_and_field_is_on_the_page() -> None:
    rows = dict(re.findall(r"^\| ((?:`[\w-]+`(?:, )?)+) \|(.*)$", EVENTS_PAGE.split("## Topics")[1].split("## Ids")[0], re.M))
    named = {topic for cell in rows for topic in re.findall(r"`([\w-]+)`", cell)}
    assert named == set(topics.ALL)
    for topic, kind in INPUTS.items():
        row = rows[f"`{topic}`"] + (rows["`clicks`"] if topic == "purchases" else "")
        assert set(kind.__struct_fields__) <= set(re.findall(r"`(\w+)`", row)), topic


def test_every_reason_is_on_the_page_with_its_limit() -> None:
    section = EVENTS_PAGE.split("## Why a message is refused")[1].split("## The list")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \|(.*)\|$", section, re.M))
    assert set(rows) == {reason.value for reason in Reason}
    limits = Limits()
    assert f"{limits.message_bytes:,}" in rows["too_large"]
    assert f"{limits.id_bytes} bytes" in rows["invalid_id"]
    assert f"{limits.text_chars:,}" in rows["text_too_long"]
    assert f"{limits.impression_items} items" in rows["too_many_items"]
    assert f"{limits.categories} categories" in rows["too_many_items"]
    assert f"{limits.context_entries} entries" in rows["context_too_large"]
    assert f"{limits.future_ms // 1000} s" in rows["future_timestamp"]


def test_headers_of_dead_letters_are_on_the_page() -> None:
    for header in schemas()["dead-letters"]["required"]:
        assert f"`{header}`" in EVENTS_PAGE


# ------------------------------------------------------------------------------------------------ all pages
def pages() -> list[Any]:
    return [pytest.param(path, id=str(path.relative_to(ROOT))) for path in [*DOCS.glob("*.md"), ROOT / "README.md"]]


@pytest.mark.parametrize("path", pages())
def test_settings_named_in_prose_exist(path: Any) -> None:
    known = {variable for variable, *_ in describe()} | {"FRESHET_DATA", "FRESHET_MODEL_"}
    known |= {f"FRESHET_MODEL_{field.upper()}" for field in Config.__struct_fields__}
    assert set(re.findall(r"\bFRESHET_[A-Z0-9_]+", path.read_text(encoding="utf-8"))) <= known


@pytest.mark.parametrize("path", pages())
def test_links_lead_somewhere(path: Any) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", path.read_text(encoding="utf-8")):
        file, _, anchor = target.partition("#")
        there = path.parent / file if file else path
        assert there.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", there.read_text(encoding="utf-8"), re.M)
            assert anchor in {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}, target


def test_generator_refuses_types_that_it_cannot_describe() -> None:
    class Odd(msgspec.Struct):
        x: dict[str, int] = {}

    with pytest.raises(ValueError, match="not documented"):
        docs.settings_table(Odd, "X_")


def test_defaults_of_secrets_are_empty() -> None:
    secret = [f for f in Settings.__struct_fields__ if re.search(r"password|api_key|secret|token", f)]
    assert secret
    assert all(getattr(Settings(), field) == "" for field in secret)
