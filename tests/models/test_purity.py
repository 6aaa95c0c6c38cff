"""models/ is pure: what it imports, and what its sources say."""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
from pathlib import Path

import models

FOREIGN = {"kafka", "aiokafka", "faust", "mode", "qdrant_client", "prometheus_client", "streams", "requests", "httpx", "torch"}


def test_importing_all_of_models_brings_no_io_library() -> None:
    names = [m.name for m in pkgutil.walk_packages(models.__path__, "models.")]
    assert "models.sources.item_cf" in names
    imports = f"for name in {names!r}: importlib.import_module(name)"
    program = f"import importlib, sys\n{imports}\nprint(*{{m.split('.')[0] for m in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert not FOREIGN & set(done.stdout.split())


def test_no_clock_no_files_no_global_random() -> None:
    """Calls that would make a result depend on more than the events."""
    forbidden = {
        "time.time",
        "time.monotonic",
        "datetime.now",
        "random.random",
        "random.choice",
        "np.random.seed",
        "np.random.rand",
    }
    allowed_to_open = {"kernel.py"}  # reads the package's own sources to know when compiled code is stale
    for path in Path(models.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in forbidden, f"{path.name}: {called}"
                assert called != "open" or path.name in allowed_to_open, path.name
