"""Text encoders: the real bundled model, and hashing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from streams.settings import Settings
from streams.text_encoder import (
    BUNDLED_SHA256,
    EncoderError,
    HashingEncoder,
    SentenceTransformerEncoder,
    TextEncoder,
    create_encoder,
    file_sha256,
    locate_model,
    model_digest,
)

TEXTS = [
    "A warm, woody guitar tone; the strings stay in tune for weeks.",
    "This acoustic guitar sounds rich and holds its tuning.",
    "The blender leaks and the lid does not close.",
    "",
    "naïve 文字 \ud800 emoji 🎸 \x00 control",
]


@pytest.fixture(scope="module")
def minilm() -> SentenceTransformerEncoder:
    encoder = SentenceTransformerEncoder()
    encoder.load()
    return encoder


@pytest.fixture(params=["hashing", "minilm"])
def encoder(request: pytest.FixtureRequest) -> TextEncoder:
    return HashingEncoder(64) if request.param == "hashing" else request.getfixturevalue("minilm")


# ------------------------------------------------------------------------------------------------ every encoder
def test_rows_are_finite_unit_float32(encoder: TextEncoder) -> None:
    rows = encoder.encode(TEXTS)
    assert rows.shape == (len(TEXTS), encoder.dim)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)


def test_no_texts_no_rows(encoder: TextEncoder) -> None:
    assert encoder.encode([]).shape == (0, encoder.dim)


def test_a_vector_does_not_depend_on_its_batch(encoder: TextEncoder) -> None:
    together = encoder.encode(TEXTS * 5 + ["a much longer neighbour " * 60])
    for i, text in enumerate(TEXTS):
        np.testing.assert_allclose(encoder.encode([text])[0], together[i], atol=1e-6)
        np.testing.assert_allclose(together[i + len(TEXTS)], together[i], atol=1e-6)


def test_similar_texts_are_near(encoder: TextEncoder) -> None:
    rows = encoder.encode(["the guitar stays in tune", "the guitar keeps in tune", "my blender leaks water"])
    assert rows[0] @ rows[1] > 0.5
    assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.3


# ------------------------------------------------------------------------------------------------ the bundled model
def test_the_bundled_weights_are_the_published_ones() -> None:
    assert file_sha256(locate_model("bundled") / "model.safetensors") == BUNDLED_SHA256


def test_meaning_without_a_common_word(minilm: SentenceTransformerEncoder) -> None:
    a, b, c = minilm.encode(["superb audio quality", "it sounds wonderful", "arrived three weeks late"])
    assert a @ b > 0.3
    assert a @ b > a @ c + 0.2


def test_minilm_has_384_dimensions_and_a_fingerprint_by_content(minilm: SentenceTransformerEncoder) -> None:
    assert minilm.dim == 384
    digest = model_digest(locate_model("bundled"))
    assert minilm.fingerprint == f"sentence-transformers/{digest[:16]}/384/float32/unit"


def test_long_texts_are_counted(minilm: SentenceTransformerEncoder) -> None:
    short, exact, over = "word", " ".join(["word"] * 254), " ".join(["word"] * 255)  # two more pieces frame a text: 256 fit
    minilm.encode([short, exact])
    assert minilm.last_truncated == 0
    minilm.encode([short, exact, over, over])
    assert minilm.last_truncated == 2
    minilm.encode([short])
    assert minilm.last_truncated == 0


def test_a_directory_with_the_same_files_is_the_same_model(minilm: SentenceTransformerEncoder, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(locate_model("bundled"), copy)
    moved = SentenceTransformerEncoder(str(copy), dtype="bfloat16")
    moved.load()
    assert moved.fingerprint == minilm.fingerprint.replace("float32", "bfloat16")
    np.testing.assert_allclose(moved.encode(TEXTS[:3]), minilm.encode(TEXTS[:3]), atol=0.02)  # bfloat16 has 8 bits
    np.testing.assert_allclose(np.linalg.norm(moved.encode(TEXTS), axis=1), 1, atol=1e-6)
    config = copy / "1_Pooling" / "config.json"
    config.write_text(config.read_text().replace("true", "false", 1))
    assert model_digest(copy) != model_digest(locate_model("bundled"))


def test_importing_the_module_imports_no_model_library() -> None:
    code = "import sys, streams.text_encoder; print([m for m in ('torch', 'transformers', 'numba') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ------------------------------------------------------------------------------------------------ clear errors
@pytest.mark.parametrize("model", ["no such/model/anywhere", "/no/such/directory", "", "../up", "a b"])
def test_an_impossible_name_is_refused(model: str) -> None:
    with pytest.raises(EncoderError, match="neither 'bundled', 'hashing'"):
        locate_model(model)


def test_a_hub_name_offline_fails_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code = "from streams.text_encoder import locate_model; locate_model('nobody/unknown-model')"
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert "EncoderError: the model 'nobody/unknown-model' is neither in the cache" in done.stderr
    assert "use 'bundled' or a directory" in done.stderr


def test_a_directory_without_safetensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(EncoderError, match="safetensors"):
        locate_model(str(tmp_path))


def test_broken_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 100)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(EncoderError, match="cannot be loaded"):
        SentenceTransformerEncoder(str(tmp_path)).load()


def test_before_loading_there_is_no_dimension() -> None:
    encoder = SentenceTransformerEncoder()
    for use in (lambda: encoder.dim, lambda: encoder.fingerprint, lambda: encoder.encode(["x"])):
        with pytest.raises(EncoderError, match="load"):
            use()


@pytest.mark.parametrize("wrong", [{"dtype": "int8"}, {"batch_size": 0}, {"threads": -1}])
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(EncoderError):
        SentenceTransformerEncoder(**wrong)  # type: ignore[arg-type]


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(EncoderError, match="cannot be loaded on 'nonsense'"):
        SentenceTransformerEncoder(device="nonsense").load()


# ------------------------------------------------------------------------------------------------ hashing
def test_hashing_is_the_same_in_every_process() -> None:
    code = "from streams.text_encoder import HashingEncoder; print(HashingEncoder(16).encode(['one two two']).tobytes().hex())"

    def run(hash_seed: str) -> str:
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment).stdout

    assert {run("1"), run("2")} == {HashingEncoder(16).encode(["one two two"]).tobytes().hex() + "\n"}


def test_hashing_sums_the_words() -> None:
    encoder = HashingEncoder(64)
    one, two = encoder.encode(["one", "two"])
    expected = one + np.sqrt(2) * two
    np.testing.assert_allclose(encoder.encode(["two, ONE two!"])[0], expected / np.linalg.norm(expected), atol=1e-6)


@pytest.mark.parametrize("dim", [0, 7, 12, -8])
def test_hashing_needs_whole_bytes(dim: int) -> None:
    with pytest.raises(EncoderError, match="multiple of 8"):
        HashingEncoder(dim)


def test_the_setting_chooses() -> None:
    assert create_encoder("hashing", dim=32).dim == 32
    assert isinstance(create_encoder("bundled"), SentenceTransformerEncoder)


def test_the_settings_say_what_it_is_and_how_it_reckons(minilm: SentenceTransformerEncoder) -> None:
    encoder = create_encoder(**Settings(embedding_dtype="bfloat16").encoder)
    encoder.load()
    assert encoder.fingerprint == minilm.fingerprint.replace("float32", "bfloat16")
    assert (encoder.encode(TEXTS) * minilm.encode(TEXTS)).sum(axis=1).min() > 0.999
    assert create_encoder(**Settings(embedding_model="hashing").encoder).fingerprint == create_encoder("hashing").fingerprint
