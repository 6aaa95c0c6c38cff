"""Every registered source is under contract."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

from models import Config, ConfigError, Recommender
from models.sources import REGISTRY
from tests.models import contracts
from tests.models.contracts.suite import SourceContract


def test_every_source_has_a_contract() -> None:
    for module in pkgutil.iter_modules(contracts.__path__):
        importlib.import_module(f"{contracts.__name__}.{module.name}")
    under_contract = {suite.registered for suite in SourceContract.__subclasses__()}
    assert under_contract == set(REGISTRY)


def test_names_are_those_of_the_registry() -> None:
    for name, source in REGISTRY.items():
        assert source.name == name


def test_an_unknown_source_is_named() -> None:
    with pytest.raises(ConfigError, match="telepathy"):
        Recommender(Config(sources=("item_cf", "telepathy")))


def test_sources_come_in_the_order_of_the_registry() -> None:
    model = Recommender(Config(sources=("popularity", "item_cf")))
    assert [source.name for source in model.sources] == ["item_cf", "popularity"]
