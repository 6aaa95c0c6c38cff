"""The public logs that some tests read where they lie: FRESHET_DATA, or `../shared/data` beside the project."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

DATA: Final = Path(os.environ.get("FRESHET_DATA", Path(__file__).resolve().parents[1] / "../shared/data"))

# logs of others, which are not ours to copy into the project
needs_data: Final = pytest.mark.skipif(not DATA.is_dir(), reason=f"the public data sets are not at {DATA} (FRESHET_DATA)")
"""Skipped, not failed: the logs are not ours to copy into the project, and whoever clones it need not have them. What these tests
look at has tests on made-up logs besides."""
