"""The dashboards: as generated, complete, and asking only for what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest

from deploy.grafana.build import FOLDER, rendered
from deploy.grafana.panels import Panel, Query, Row, dashboard
from deploy.inventory import exported
from models import Config
from streams.settings import Settings
from tests.deploy.promql_lint import IDS, problems, selected, substituted, surviving
from tests.deploy.rule_files import recorded, rules

UNITS = {"reqps", "s", "percentunit", "short", "bytes"}
KINDS = {"timeseries", "stat", "heatmap", "bargauge", "row"}


def boards() -> dict[Path, dict[str, Any]]:
    return {path: json.loads(text) for path, text in rendered().items()}


def panels() -> list[Any]:
    return [
        pytest.param(panel, id=f"{path.stem}: {panel['title']}")
        for path, board in boards().items()
        for panel in board["panels"]
        if panel["type"] != "row"
    ]


def test_committed_files_are_the_generated_ones() -> None:
    """Else: python -m deploy.grafana.build"""
    assert {path: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")} == rendered()


@pytest.mark.parametrize("panel", panels())
def test_panel_is_complete(panel: dict[str, Any]) -> None:
    assert panel["type"] in KINDS
    assert panel["title"]
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert len(panel["description"]) > 60
    assert panel["datasource"]["uid"] == "${datasource}"
    assert panel["targets"]


@pytest.mark.parametrize("panel", panels())
def test_queries_name_only_what_is_exported(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        assert target["datasource"]["uid"] == "${datasource}"
        assert problems(substituted(target["expr"]), recorded()) == []


@pytest.mark.parametrize("panel", panels())
def test_queries_obey_the_variables_of_the_dashboard(panel: dict[str, Any]) -> None:
    """Every selector is narrowed by job, scraped ones by instance; ranges follow the zoom or are the title's hour."""
    for target in panel["targets"]:
        for one in selected(promql.parse(target["expr"].replace("$__rate_interval", "1m"))):
            if one.name == "ALERTS":
                continue  # of all processes, that is what it is there for
            wanted = {("job", "Re", "$job")} | (set() if one.name in recorded() else {("instance", "Re", "$instance")})
            assert wanted <= set(one.matchers), target["expr"]
        ranges = set(re.findall(r"\[(.+?)\]", target["expr"]))
        assert ranges <= {"$__rate_interval"} or (ranges == {"1h"} and "1 h" in panel["title"])


@pytest.mark.parametrize("board", [pytest.param(board, id=path.stem) for path, board in boards().items()])
def test_annotations_mark_starts_and_rebalances(board: dict[str, Any]) -> None:
    marks = {mark["name"]: mark for mark in board["annotations"]["list"]}
    assert set(marks) == {"Starts", "Rebalances"}
    for mark in marks.values():
        assert mark["datasource"]["uid"] == "${datasource}"
        assert mark["enable"]
        expr = mark["target"]["expr"]
        assert problems(substituted(expr), recorded()) == []
        used = set(re.findall(r"\{\{(\w+)\}\}", mark["titleFormat"] + mark["textFormat"]))
        assert used <= surviving(promql.parse(substituted(expr)), recorded())


def test_no_label_anywhere_holds_an_id() -> None:
    """Each person, item, list or event would be a series of its own."""
    assert {label for metric in exported() for label in metric.labels} & IDS == set()
    for board in boards().values():
        assert not re.search(r"\b(" + "|".join(IDS) + r")\b", json.dumps(board["panels"]))


@pytest.mark.parametrize("board", [pytest.param(board, id=path.stem) for path, board in boards().items()])
def test_boards_lead_to_each_other(board: dict[str, Any]) -> None:
    (link,) = board["links"]
    assert set(link["tags"]) <= set(board["tags"])
    assert link["includeVars"]
    assert link["keepTime"]


def test_there_are_four_boards_of_one_folder() -> None:
    assert {path.stem for path in boards()} == {"overview", "quality", "pipeline", "capacity"}
    assert len({board["uid"] for board in boards().values()}) == 4


@pytest.mark.parametrize("panel", panels())
def test_descriptions_name_settings_and_alerts_that_exist(panel: dict[str, Any]) -> None:
    known = {f"FRESHET_{field.upper()}" for field in Settings.__struct_fields__}
    known |= {f"FRESHET_MODEL_{field.upper()}" for field in Config.__struct_fields__}
    alerts = {rule["alert"] for rule in rules("alert")}
    assert set(re.findall(r"\bFRESHET_[A-Z_]+", panel["description"])) <= known
    assert set(re.findall(r"\bFreshet[A-Z]\w+", panel["description"])) <= alerts


@pytest.mark.parametrize("panel", panels())
def test_legends_use_labels_that_the_query_keeps(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        tree = promql.parse(substituted(target["expr"]))
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= surviving(tree, recorded()), target["expr"]


@pytest.mark.parametrize("board", [pytest.param(board, id=path.stem) for path, board in boards().items()])
def test_board_is_provisionable(board: dict[str, Any]) -> None:
    assert board["editable"] is False
    assert [variable["name"] for variable in board["templating"]["list"]] == ["datasource", "job", "instance"]
    ids = [panel["id"] for panel in board["panels"]]
    assert sorted(ids) == list(range(1, len(ids) + 1))
    titles = [panel["title"] for panel in board["panels"]]
    assert len(board["uid"]) <= 40
    assert len(titles) == len(set(titles))


@pytest.mark.parametrize("board", [pytest.param(board, id=path.stem) for path, board in boards().items()])
def test_no_two_panels_overlap(board: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


def test_every_metric_of_ours_is_on_a_dashboard() -> None:
    """What nobody looks at need not be exported. Through a recorded series counts."""
    by_rule = {rule["record"]: rule["expr"] for rule in rules("record")}
    texts = [target["expr"] for board in boards().values() for panel in board["panels"] for target in panel.get("targets", ())]
    seen = " ".join(texts + [by_rule[name] for text in texts for name in by_rule if name in text])
    missing = [metric.name for metric in exported() if metric.name.startswith("freshet_") and metric.name not in seen]
    assert missing == []


def test_layout_breaks_lines_and_refuses_unknown_kinds() -> None:
    def panel(width: int, kind: str = "stat") -> Panel:
        return Panel(f"p{width}", "d", "s", [Query("up")], kind=kind, width=width, height=4)

    board = dashboard(uid="u", title="t", description="d", rows=[Row("a", [panel(16), panel(9)]), Row("b", [panel(24)])])
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in board["panels"]]
    assert places == [(0, 0), (0, 1), (0, 5), (0, 9), (0, 10)]
    with pytest.raises(ValueError, match="no builder"):
        dashboard(uid="u", title="t", description="d", rows=[Row("a", [panel(8, "pie")])])
