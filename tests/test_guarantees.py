"""Every proof that docs/guarantees.md names exists, and so do its settings and metrics."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deploy.inventory import exported
from models import Config
from streams.settings import MODEL_PREFIX, PREFIX, Settings

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "guarantees.md").read_text()
PROOFS = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)))


@pytest.mark.parametrize(("file", "name"), PROOFS)
def test_the_proof_exists(file: str, name: str) -> None:
    assert re.search(rf"^(?:(?:async )?def {name}\(|{name} = )", (ROOT / file).read_text(), re.M), f"{file} has no {name}"


def test_every_promise_has_a_proof() -> None:
    table = TEXT.split("## Promises")[1].split("##")[0]
    rows = [line for line in table.splitlines() if line.startswith("|")][2:]
    assert rows
    assert all("::" in row.split("|")[2] for row in rows)


def test_settings_and_metrics_that_it_names_exist() -> None:
    known = {PREFIX + name.upper() for name in Settings.__struct_fields__}
    known |= {MODEL_PREFIX + name.upper() for name in Config.__struct_fields__}
    assert set(re.findall(r"`(FRESHET_[A-Z_]+)`", TEXT)) <= known
    metrics = {metric.name for metric in exported()}
    assert {found for found in re.findall(r"`(freshet_[a-z_]+)", TEXT)} <= metrics
