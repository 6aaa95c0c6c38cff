"""The vector store in trouble on the way to a server: what passes by itself, and how long anybody waits for it."""

from __future__ import annotations

import pytest

from streams.vector_store import (
    VectorStore,
    VectorStoreError,
    VectorStoreUnavailable,
)
from tests.streams.answering import (
    answering,
)
from tests.streams.flow import free_port
from tests.streams.test_vector_store import (
    DIM,
    run,
    unit,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*(server version|Api key is used|insecure connection|incompatible).*")


@pytest.mark.parametrize("prefer_grpc", [False, True])
def test_a_server_that_is_away_passes_by_itself(prefer_grpc: bool) -> None:
    async def main() -> None:
        store = VectorStore(url=f"http://127.0.0.1:{free_port()}", grpc_port=free_port(), prefer_grpc=prefer_grpc, timeout_s=2)
        with pytest.raises(VectorStoreUnavailable, match=r"preparing the collections in http://127\.0\.0\.1"):
            await store.ensure(DIM, "test/8")
        with pytest.raises(VectorStoreUnavailable):
            await store.near([unit(0)], 3, 2)
        await store.close()

    run(main())


@pytest.mark.parametrize(
    ("status", "headers", "passes"),
    [(500, {}, True), (503, {}, True), (429, {}, True), (429, {"Retry-After": "7"}, True), (400, {}, False), (403, {}, False)],
)
def test_which_answers_pass_by_themselves(status: int, headers: dict[str, str], passes: bool) -> None:
    async def main() -> None:
        async with answering(status, **headers) as url:
            store = VectorStore(url=url, api_key="top-secret")
            with pytest.raises(VectorStoreError) as caught:
                await store.counts()
            await store.close()
        assert isinstance(caught.value, VectorStoreUnavailable) is passes
        assert getattr(caught.value, "retry_after_s", 0.0) == float(headers.get("Retry-After", 0))
        assert "top-secret" not in str(caught.value)
        assert ("FRESHET_QDRANT_API_KEY" in str(caught.value)) is (status == 403)

    run(main())


def test_near_does_not_wait_longer_than_its_deadline() -> None:
    async def main() -> None:
        async with answering(200, delay_s=1.0) as url:
            store = VectorStore(url=url)
            with pytest.raises(VectorStoreUnavailable, match=r"within 0\.05 s"):
                await store.near([unit(0)], 3, 0.05)
            await store.close()

    run(main())


def test_a_password_in_the_address_is_never_shown() -> None:
    assert VectorStore(url="https://user:secret@host.example/path?key=secret").where == "https://host.example:6333"
