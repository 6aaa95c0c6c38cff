"""Write what in docs/ is generated: `python -m deploy.docs`. The results are committed; tests regenerate and compare them.

- `docs/schemas/<topic>.json`: JSON Schema of each topic's value, from the structs that decode it;
- the tables in `docs/settings.md` and `docs/metrics.md`, between their markers; the text around them is written by hand.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import inspect

from deploy.inventory import OPEN_LABELS, exported
from models import Config, events
from models.events import INPUTS, Reason
from streams.presence import Presence
from streams.settings import MODEL_PREFIX, PREFIX, Settings
from streams.weights import Headers

ROOT: Final = Path(__file__).parent.parent
DOCS: Final = ROOT / "docs"
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

_VALUES: Final[dict[str, type[msgspec.Struct]]] = {
    **INPUTS,
    "interactions": events.Interaction,
    "item-texts": events.ItemText,
    "item-vectors": events.ItemVector,
    "review-vectors": events.ReviewVector,
    "recommendations": events.RecommendationList,
    "workers": Presence,
}


def rendered() -> dict[Path, str]:
    """File -> its whole text, for everything that is (partly) generated."""
    files = {DOCS / "schemas" / f"{topic}.json": _json(schema) for topic, schema in schemas().items()}
    for name, tables in {
        "settings.md": {"settings": settings_table(Settings, PREFIX), "model settings": settings_table(Config, MODEL_PREFIX)},
        "metrics.md": {"metrics": metrics_table()},
    }.items():
        text = (DOCS / name).read_text(encoding="utf-8")
        for marker, table in tables.items():
            text = between(text, marker, table)
        files[DOCS / name] = text
    return files


def between(text: str, marker: str, generated: str) -> str:
    """`text` with what stands between the marker's two lines replaced; ValueError if the text has no such lines."""
    begin, end = f"<!-- generated: {marker} -->", f"<!-- end: {marker} -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"the text needs the lines {begin!r} and {end!r}, once each")
    head, rest = text.split(begin)
    return f"{head}{begin}\n{generated}{end}{rest.split(end)[1]}"


# ------------------------------------------------------------------------------------------------ schemas
def schemas() -> dict[str, dict[str, Any]]:
    """Topic -> JSON Schema of its values (of its headers for dead letters, whose values are whatever came)."""
    found = {}
    for topic, kind in _VALUES.items():
        schema = msgspec.json.schema(kind)
        if topic in INPUTS:  # the topic says what it is: `type` may be left out
            body = schema["$defs"][kind.__name__]
            body["required"] = [name for name in body["required"] if name != "type"]
        found[topic] = {"$schema": DIALECT, "$comment": f"Topic {topic}. Unknown fields are ignored.", **schema}
    return {**found, "dead-letters": _dead_letters(), "weights": _weights()}


def _dead_letters() -> dict[str, Any]:
    number = {"type": "string", "pattern": "^[0-9]+$"}
    return {
        "$schema": DIALECT,
        "$comment": "Topic dead-letters: its headers, as text. Key and value are the original bytes, whatever they are.",
        "title": "DeadLetterHeaders",
        "type": "object",
        "properties": {
            "source-topic": {"type": "string"},
            "source-partition": number,
            "source-offset": number,
            "reason": {"enum": [reason.value for reason in Reason]},
            "detail": {"type": "string", "maxLength": 500},
            "refused-at-ms": number,
            "truncated": {**number, "description": "Size of the original value, where only its beginning is carried."},
            "key-truncated": {**number, "description": "Size of the original key, where only its beginning is carried."},
        },
        "required": ["source-topic", "source-partition", "source-offset", "reason", "detail", "refused-at-ms"],
    }


def _weights() -> dict[str, Any]:
    comment = "Topic weights: its headers, as text. Values are parts of a deflated snapshot, keys `0/1`, `1/1`, `0/2` ..."
    schema = msgspec.json.schema(Headers)
    return {"$schema": DIALECT, "$comment": comment, **schema}


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


# ------------------------------------------------------------------------------------------------ tables
def settings_table(kind: type[msgspec.Struct], prefix: str) -> str:
    """Variable, type with its bounds, default and meaning of each field of a struct of settings."""
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    rows = ["| variable | type | default | meaning |", "|---|---|---|---|"]
    for field in info.fields:
        meaning, value = "", field.type
        if isinstance(value, inspect.Metadata):
            meaning = str((value.extra_json_schema or {}).get("description", ""))
            value = value.type
        if isinstance(value, inspect.StructType):
            continue  # the model's settings have a table of their own
        default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
        rows.append(f"| `{prefix}{field.name.upper()}` | {_cell(_type(value))} | {_cell(_default(default))} | {_cell(meaning)} |")
    return "\n".join(rows) + "\n"


def _type(kind: Any) -> str:
    """`integer, 1 to 1000` and the like."""
    match kind:
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType() | inspect.FloatType():
            return ("integer" if isinstance(kind, inspect.IntType) else "number") + _bounds(kind)
        case inspect.LiteralType(values=values):
            return " / ".join(str(value) for value in values)
        case inspect.StrType(pattern=pattern):
            return "text" + (f" matching `{pattern}`" if pattern else "")
        case inspect.UnionType(types=types):
            return " or ".join(_type(one) for one in types)
        case inspect.NoneType():
            return "nothing"
        case inspect.VarTupleType() | inspect.TupleType() | inspect.ListType():
            return "list, separated by commas"
        case inspect.Metadata():
            return _type(kind.type)
    raise ValueError(f"settings of type {kind!r} are not documented")


def _bounds(kind: inspect.IntType | inspect.FloatType) -> str:
    low = f"at least {kind.ge:,}" if kind.ge is not None else f"above {kind.gt:,}" if kind.gt is not None else ""
    high = f"at most {kind.le:,}" if kind.le is not None else f"below {kind.lt:,}" if kind.lt is not None else ""
    return "".join(f", {part}" for part in (low, high) if part)


def _default(value: Any) -> str:
    match value:
        case bool():
            return f"`{str(value).lower()}`"
        case tuple() | list():
            return f"`{','.join(map(str, value))}`" if value else "empty"
        case None | "":
            return "empty"
    return f"`{value}`"


def metrics_table() -> str:
    """Name, type, labels with their values, and meaning of each metric."""
    rows = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for metric in exported():
        labels = "; ".join(
            f"`{label}`: {', '.join(values) if values else OPEN_LABELS[label]}" for label, values in metric.labels.items()
        )
        rows.append(f"| `{metric.name}` | {metric.kind} | {_cell(labels)} | {_cell(metric.help)} |")
    return "\n".join(rows) + "\n"


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


def main() -> None:
    """Write everything and say what was written."""
    for path, text in rendered().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
