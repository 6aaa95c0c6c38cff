"""Examples in docstrings run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import models


def test_examples_in_docstrings() -> None:
    names = [m.name for m in pkgutil.walk_packages(models.__path__, "models.")]
    results = [doctest.testmod(importlib.import_module(name)) for name in names]
    assert sum(result.attempted for result in results) > 0
    assert not any(result.failed for result in results)
