"""Rankers that read: a real HTTP server that speaks the protocol, and a real cross-encoder on disk."""

from __future__ import annotations

import asyncio
import math
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from models.events import Evidence, Recommended
from models.text_ranking import ItemTexts
from streams.language_ranker import (
    MAX_ANSWER_BYTES,
    CrossEncoderRanker,
    EndpointRanker,
    RankerError,
    create_ranker,
    open_cross_encoder,
)
from streams.language_stage import Asked, LanguageStage
from streams.text_encoder import locate_model
from tests.streams.chat_endpoint import Endpoint


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    server = Endpoint()
    yield server
    server.close()


# ------------------------------------------------------------------------------------------------ endpoint
def test_endpoint_is_asked_by_the_protocol_and_its_order_becomes_scores(endpoint: Endpoint) -> None:
    endpoint.say = lambda request: "Sure: [3, 1]"
    ranker = create_ranker(endpoint.url, model="some-model", api_key="secret", timeout_s=20)
    ranker.load()
    scores = ranker.rank("a drum\nkit", ["sticks", "tea\npot", "cymbal"])
    assert scores == pytest.approx([-math.log(2), -math.log(3), 0.0])
    ((path, headers, request),) = endpoint.asked
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer secret"
    assert request["model"] == "some-model"
    assert request["temperature"] == 0
    user = request["messages"][1]["content"]  # type: ignore[index]
    assert user == "Taken last, the newest first:\na drum kit\n\nCandidates:\n1. sticks\n2. tea pot\n3. cymbal"


@pytest.mark.parametrize(
    ("said", "order"),
    [
        ("[2,1]", [1, 0]),
        ("2 then 1", [1, 0]),
        ("not [9] but [2, 2, 0, 77, 1]", [1, 0]),
        ("[999999999999]", None),
        ("I cannot", None),
        ("[]", None),
    ],
)
def test_what_is_said_can_only_permute(endpoint: Endpoint, said: str, order: list[int] | None) -> None:
    endpoint.say = lambda request: said
    ranker = EndpointRanker(endpoint.url, model="m", timeout_s=20)
    if order is None:
        with pytest.raises(RankerError, match="names no candidate"):
            ranker.rank("q", ["a", "b"])
    else:
        scores = ranker.rank("q", ["a", "b"])
        assert sorted(range(2), key=lambda k: -scores[k]) == order


@pytest.mark.parametrize(
    ("raw", "status", "message"),
    [
        (b"not json", 200, "no chat completion"),
        (b"[" * 100_000, 200, "no chat completion"),
        (b'{"choices": []}', 200, "no chat completion"),
        (b'{"choices": [{"message": {"content": null}}]}', 200, "has no text"),
        (b"x" * (MAX_ANSWER_BYTES + 1), 200, "longer than"),
        (b"secret", 500, "answers 500"),
        (b"", 302, "answers 302"),
    ],
)
def test_bad_answers_are_errors_without_keys_in_them(endpoint: Endpoint, raw: bytes, status: int, message: str) -> None:
    endpoint.raw, endpoint.status = raw, status
    with pytest.raises(RankerError, match=message) as caught:
        EndpointRanker(endpoint.url, model="m", api_key="secret", timeout_s=20).rank("q", ["a", "b"])
    assert "secret" not in str(caught.value)


def test_an_endpoint_that_is_away_or_silent_is_an_error(endpoint: Endpoint) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(RankerError, match="does not answer"):
        EndpointRanker(f"http://127.0.0.1:{port}", model="m", timeout_s=20).rank("q", ["a", "b"])
    endpoint.proceed.clear()
    with pytest.raises(RankerError, match="does not answer: TimeoutError"):
        EndpointRanker(endpoint.url, model="m", timeout_s=0.05).rank("q", ["a", "b"])


@pytest.mark.parametrize("url", ["http://", "ftp://x", "http://user:pw@host", "http://host:99999", "http://host?x=1"])
def test_wrong_urls_are_refused(url: str) -> None:
    with pytest.raises(RankerError, match=r"URL|write http"):
        EndpointRanker(url, model="m")
    with pytest.raises(RankerError, match="name of its model"):
        EndpointRanker("http://127.0.0.1", model="")


# ------------------------------------------------------------------------------------------------ cross-encoder
@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-encoder with a new head on the bundled weights."""
    directory = tmp_path_factory.mktemp("ranker")
    model, _ = open_cross_encoder(locate_model("bundled"), "cpu")
    model.save_pretrained(str(directory))
    return directory


def test_cross_encoder_scores_every_candidate_on_its_own(untrained: Path) -> None:
    ranker = CrossEncoderRanker(str(untrained), device="cpu")
    with pytest.raises(RankerError, match="not loaded"):
        ranker.rank("q", ["a"])
    ranker.load()
    texts = ["a guitar", "tea \ud800 pot", "x" * 5000, "", "a guitar"]
    scores = ranker.rank("drums; cymbals", texts)
    assert len(scores) == len(texts)
    assert scores[0] == pytest.approx(scores[4], abs=1e-5)
    assert scores[1] == pytest.approx(ranker.rank("drums; cymbals", texts[1:2])[0], abs=1e-4)
    assert len({round(score, 6) for score in scores[:4]}) == 4


def test_what_is_no_cross_encoder_is_refused(untrained: Path, tmp_path: Path) -> None:
    for name, message in (("bundled", "no cross-encoder"), (str(tmp_path), "safetensors"), ("/nowhere/at/all", "no model")):
        with pytest.raises(RankerError, match=message):
            create_ranker(name).load()
    (tmp_path / "config.json").write_text((untrained / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 64)
    with pytest.raises(RankerError, match="cannot be loaded"):
        create_ranker(str(tmp_path), device="cpu").load()


# ------------------------------------------------------------------------------------------------ the stage
class Scripted:
    """A ranker that prefers long texts, waits where it is told to, and fails where it is told to."""

    def __init__(self) -> None:
        self.calls = 0
        self.fails = False
        self.proceed = threading.Event()
        self.proceed.set()

    def load(self) -> None:
        pass

    def rank(self, query_text: str, candidate_texts: Sequence[str]) -> list[float]:
        self.calls += 1
        self.proceed.wait(20)
        if self.fails:
            raise RankerError("told to")
        return [float(len(text)) for text in candidate_texts]


def line(item: str, rank: int, score: float) -> Recommended:
    return Recommended(
        item_id=item, rank=rank, score=score, sources={"popularity": score}, reasons=[Evidence(kind="popular", weight=score)]
    )


LINES = [line("a", 1, 0.3), line("b", 2, 0.2), line("c", 3, 0.1)]


class Scene:
    """A stage over a scripted ranker, with a clock set by hand where `now` is given."""

    def __init__(self, *, budget_s: float = 20.0, failures: int = 2) -> None:
        self.ranker, self.now, self.outcomes = Scripted(), 0.0, {}
        texts = ItemTexts()
        for item, text in {"a": "x", "b": "xx", "c": "xxxxxxxx", "mine": "drums"}.items():
            texts.say(item, text)
        self.stage = LanguageStage(
            self.ranker, texts, weight=1.0, budget_s=budget_s, failures=failures, pause_s=30, observe=self.count,
            clock=lambda: self.now,
        )  # fmt: skip

    def count(self, outcome: str, lists: int) -> None:
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + lists

    async def ask(self, users: int = 1, recent: Sequence[str] = ("mine",)) -> list[str]:
        answer = await self.stage.reorder([Asked(list(recent), LINES)] * users, 2)
        return ["".join(x.item_id for x in lines) for lines in answer]


def test_lists_are_reordered_in_time() -> None:
    async def main() -> None:
        scene = Scene()
        await scene.stage.start()
        assert await scene.ask(3) == ["cb", "cb", "cb"]
        assert await scene.ask(1, recent=()) == ["ab"]
        assert await scene.ask(0) == []
        assert scene.outcomes == {"reordered": 3, "no_text": 1}
        scene.stage.close()

    asyncio.run(main())


def test_when_the_budget_is_spent_the_fused_order_stands_and_nobody_waits_for_the_rest() -> None:
    async def main() -> None:
        scene = Scene(budget_s=0.05)
        scene.ranker.proceed.clear()
        assert await scene.ask(2) == ["ab", "ab"]
        assert scene.outcomes == {"late": 2}
        assert await scene.ask(2) == ["ab", "ab"]  # the first call still runs
        assert scene.outcomes == {"late": 2, "busy": 2}
        assert scene.ranker.calls == 1
        scene.ranker.proceed.set()
        assert scene.stage._running is not None
        await scene.stage._running
        scene.stage._budget_s = 20.0
        assert await scene.ask() == ["cb"]
        scene.stage.close()

    asyncio.run(main())


def test_lists_done_before_the_budget_ended_are_kept() -> None:
    async def main() -> None:
        scene = Scene(budget_s=20.0)

        def rank(query_text: str, candidate_texts: Sequence[str]) -> list[float]:
            scene.now += 15.0
            return [float(len(text)) for text in candidate_texts]

        scene.ranker.rank = rank  # type: ignore[method-assign]
        assert await scene.ask(4) == ["cb", "cb", "ab", "ab"]
        assert scene.outcomes == {"reordered": 2, "late": 2}
        scene.stage.close()

    asyncio.run(main())


def test_the_stage_rests_after_failures_and_tries_again() -> None:
    async def main() -> None:
        scene = Scene(failures=2)
        scene.ranker.fails = True
        for _ in range(2):
            assert await scene.ask() == ["ab"]
        assert scene.outcomes == {"failed": 2}
        assert await scene.ask() == ["ab"]
        assert scene.outcomes == {"failed": 2, "resting": 1}
        scene.now = 31.0
        assert await scene.ask() == ["ab"]  # one trial, which fails: rest at once
        assert await scene.ask() == ["ab"]
        assert scene.ranker.calls == 3
        scene.now, scene.ranker.fails = 62.0, False
        assert await scene.ask() == ["cb"]
        scene.ranker.fails = True
        assert await scene.ask() == ["ab"]  # counted anew: no rest after one
        scene.ranker.fails = False
        assert await scene.ask() == ["cb"]
        scene.stage.close()

    asyncio.run(main())


def test_the_stage_over_a_real_endpoint(endpoint: Endpoint) -> None:
    async def main() -> None:
        scene = Scene()
        endpoint.say = lambda request: "[3, 2, 1]"
        ranker = create_ranker(endpoint.url, model="m", timeout_s=20)
        stage = LanguageStage(ranker, scene.stage.texts, weight=5.0, budget_s=20, observe=scene.count)
        await stage.start()
        (lines,) = await stage.reorder([Asked(["mine"], LINES)], 3)
        assert [x.item_id for x in lines] == ["c", "b", "a"]
        assert [sum(r.weight for r in x.reasons) for x in lines] == [0.1, 0.2, 0.3]
        stage.close()
        scene.stage.close()

    asyncio.run(main())
