"""Kernels compile wherever they are."""

from __future__ import annotations

import pytest
from numba.core.caching import CacheImpl

from models.kernel import allocating_kernel, allocating_loose_kernel, inlined, kernel, loose_kernel


def double(x: int) -> int:
    return 2 * x


@pytest.mark.parametrize("decorate", [kernel, allocating_kernel, inlined, loose_kernel, allocating_loose_kernel])
def test_where_nothing_can_be_written_code_is_compiled_and_not_kept(decorate: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container with a read-only file system and no volume: `freshet topics` imports the model, too."""
    monkeypatch.setattr(CacheImpl, "_locator_classes", [])
    assert decorate(double)(21) == 42  # type: ignore[operator]
