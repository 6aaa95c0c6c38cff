"""What the plan for shards rests on: what shards count adds up to what one replica counts."""

from __future__ import annotations

import pytest

from tests.benchmarks.sharded import System, clicks


@pytest.mark.parametrize("shards", [2, 5])
def test_answers_of_all_shards_add_up_to_those_of_one_replica(shards: int) -> None:
    """With totals of the moment, and where no answer is cut."""
    one, several = System(1, 1), System(shards, 1)
    log = clicks(600, users=60, items=30, seed=3)
    for event in log:
        one.learn(event)
        several.learn(event)
    for user in dict.fromkeys(event.user_id for event in log):
        home = several.shards[several.home(user)]
        asked = home.asked(user)
        whole = one.shards[0].find(asked, user)
        answers = [shard.find(asked, user if shard is home else None) for shard in several.shards]
        assert set(whole["item_cf"]) == {item for answer in answers for item in answer["item_cf"]}
        for source in ("item_cf", "sequence", "proximity"):
            for item, score in whole[source].items():
                assert sum(answer[source].get(item, 0.0) for answer in answers) == pytest.approx(score, rel=1e-9), (source, item)
        for source in ("popularity", "trending_12h"):
            known = {item: score for item, score in several.popular[source].items() if item not in asked.seen}
            best = max(whole[source].values(), default=1.0), max(known.values(), default=1.0)
            assert known.keys() == whole[source].keys()
            for item, score in whole[source].items():
                assert known[item] / best[1] == pytest.approx(score / best[0], abs=0.02)


def test_shards_hold_their_own_users_only() -> None:
    system = System(4, 100)
    for event in clicks(800, users=80, items=40, seed=4):
        system.learn(event)
    for k, shard in enumerate(system.shards):
        users = shard.model.history.users
        assert {system.home(users.name(u)) for u in users.indices().tolist()} == {k}
    assert system.traffic.totals > 0
