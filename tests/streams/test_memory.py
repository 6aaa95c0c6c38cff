from __future__ import annotations

import gc
import platform
import subprocess
import sys

import pytest

from streams.memory import give_back_large, no_collections

# glibc alone has what is asked for here; that elsewhere nothing happens is tested below, everywhere
needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not glibc: memory is given back in its own way")

PROGRAM = """
import sys
import numpy as np
from pathlib import Path
from streams.memory import give_back_large

def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

if sys.argv[1] == "asked":
    assert give_back_large()
first = np.ones(3_900_000)  # once it is freed, glibc keeps whatever is smaller
del first
held = [np.ones(400_000) for _ in range(40)]
before = resident_mb()
held = held[1::2]  # one between two that stay
print(before - resident_mb())
"""


def given_back_mb(how: str) -> float:
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
    return float(done.stdout)


@needs_glibc
def test_large_arrays_go_back_to_the_system() -> None:
    assert given_back_mb("asked") > 50.0
    assert given_back_mb("not") < 25.0, "else it need not be asked for"


def test_where_it_cannot_be_arranged_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert not give_back_large()


def test_garbage_is_looked_for_again_whatever_happened() -> None:
    def fail() -> None:
        assert not gc.isenabled()
        raise OSError("no model")

    with pytest.raises(OSError, match="no model"), no_collections():
        fail()
    assert gc.isenabled()
