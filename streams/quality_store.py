"""Passes that were measured once are kept: a second run of `make quality` measures only what is new.

A pass is known by everything it depends on: the bytes of its files, its protocol and settings, the source of the model and of all
that reads, embeds and asks, and the versions of numpy and numba. A file per pass, `<key>.npz`: arrays, and the report as JSON.
What cannot be read is measured again.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec
import numba
import numpy as np
import numpy.typing as npt

from models.evaluation.outcome import Outcome
from streams.evaluate_passes import Spec

ROOT: Final = Path(__file__).parent.parent
CODE: Final = (
    "models/**/*.py", "streams/convert.py", "streams/datasets.py", "streams/lockstep*.py", "streams/evaluate_passes.py",
    "streams/evaluate_command.py", "streams/text_encoder.py", "streams/text_vectors.py",
)  # fmt: skip
NO_MATTER: Final = ("models/warm.py", "models/explain.py")
"""Of these files, those that change no figure: one compiles what the others say, the other says why an item is in a list."""
KEPT: Final = 2_000
"""Files kept; the longest unused leave first. A pass over the largest public log takes 2 MiB."""
_RANKS: Final = "ranks:"


class Store:
    """A folder of measured passes. Bound: `KEPT` files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, spec: Spec) -> Outcome | None:
        """What this pass gave, if it is known."""
        path = self._path(spec)
        try:
            outcome = unpacked(path.read_bytes())
            os.utime(path)  # so that it is not the one that leaves
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            return None
        return outcome

    def put(self, spec: Spec, outcome: Outcome) -> None:
        """Keep it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(spec)
        partial = path.with_suffix(f".{os.getpid()}.part")
        partial.write_bytes(packed(outcome))
        partial.replace(path)
        for old in sorted(self.folder.glob("*.npz"), key=lambda file: file.stat().st_mtime)[:-KEPT]:
            old.unlink(missing_ok=True)

    def _path(self, spec: Spec) -> Path:
        return self.folder / f"{key(spec)}.npz"


def key(spec: Spec) -> str:
    """The name of a pass: a hash of everything it depends on."""
    said = msgspec.to_builtins(spec, enc_hook=str)  # paths
    protocol = said["protocol"] | {"kinds": sorted(said["protocol"]["kinds"] or [])}
    parts = {
        "files": [_file(path) for path in (*spec.catalogues, *spec.files)],
        "spec": {name: value for name, value in said.items() if name not in ("files", "catalogues")} | {"protocol": protocol},
        "code": code(),
        "versions": [np.__version__, numba.__version__],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


@cache
def code() -> str:
    """A hash of the source that the figures come from."""
    total = hashlib.sha256()
    for pattern in CODE:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            if name not in NO_MATTER:
                total.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()


@cache
def _file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def packed(outcome: Outcome) -> bytes:
    """As the bytes of an .npz file."""
    arrays: dict[str, npt.NDArray[Any]] = {_RANKS + name: ranks for name, ranks in outcome.ranks.items()}
    arrays |= {"users": outcome.users, "user_events": outcome.user_events, "item_events": outcome.item_events}
    arrays["report"] = np.frombuffer(json.dumps({"n": outcome.n, "report": outcome.report}).encode(), np.uint8)
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)  # type: ignore[arg-type]
    return out.getvalue()


def unpacked(data: bytes) -> Outcome:
    """Back from `packed`. ValueError, KeyError or BadZipFile where the bytes are no outcome."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        said = json.loads(arrays["report"].tobytes())
        return Outcome(
            n=said["n"],
            ranks={name.removeprefix(_RANKS): arrays[name] for name in arrays.files if name.startswith(_RANKS)},
            users=arrays["users"], user_events=arrays["user_events"], item_events=arrays["item_events"], report=said["report"],
        )  # fmt: skip
