"""A click belongs to the list it names, else to the newest list within the window that showed the item."""

import pytest

from models.attribution import Attributed, RecentIds, ServedLists, Unattributed
from models.events import POPULAR, CausedBy, Impression, Interaction, RecommendationList, Recommended

HOUR_MS = 3_600_000


def served(user: str, list_id: str, items: str, *, at_ms: int = 0, offset: int = 0, arm: str = "a") -> RecommendationList:
    return RecommendationList(
        user_id=user,
        list_id=list_id,
        generated_at_ms=at_ms,
        log_offset=offset,
        caused_by=CausedBy(event_id="e", timestamp_ms=at_ms),
        arm=arm,
        items=[Recommended(item_id=i, rank=k, score=1.0, sources={}, reasons=[]) for k, i in enumerate(items, 1)],
    )


def click(user: str, item: str, *, at_ms: int = 0, list_id: str | None = None) -> Interaction:
    return Interaction(kind="click", event_id="c", user_id=user, item_id=item, timestamp_ms=at_ms, list_id=list_id)


def test_a_click_that_names_its_list_belongs_to_it_even_when_a_newer_one_has_the_item():
    lists = ServedLists()
    lists.put(served("ada", "l1", "xyz", offset=1, arm="old"))
    lists.put(served("ada", "l2", "zxy", offset=2))
    assert lists.attribute(click("ada", "y", list_id="l1"), HOUR_MS) == Attributed("l1", "old", 2)
    assert lists.attribute(click("ada", "y"), HOUR_MS) == Attributed("l2", "a", 3)


def test_without_a_name_the_window_in_event_time_decides():
    lists = ServedLists()
    lists.put(served("ada", "l1", "xyz", at_ms=1_000))
    assert lists.attribute(click("ada", "x", at_ms=1_000 + HOUR_MS), HOUR_MS) == Attributed("l1", "a", 1)
    assert lists.attribute(click("ada", "x", at_ms=1_001 + HOUR_MS), HOUR_MS) is Unattributed.OUTSIDE_WINDOW
    assert lists.attribute(click("ada", "x", at_ms=999), HOUR_MS) is Unattributed.NOT_IN_LIST, "served only later"
    assert lists.attribute(click("ada", "q", at_ms=1_000), HOUR_MS) is Unattributed.NOT_IN_LIST
    assert lists.attribute(click("bob", "x", at_ms=1_000), HOUR_MS) is Unattributed.NO_LIST


def test_strangers_saw_the_popular_list():
    lists = ServedLists()
    lists.put(served(POPULAR, "p1", "xy"))
    assert lists.attribute(click("bob", "y"), HOUR_MS) == Attributed("p1", "a", 2)
    assert lists.attribute(click("bob", "y", list_id="p1"), HOUR_MS) == Attributed("p1", "a", 2)
    lists.put(served("bob", "b1", "z"))
    assert lists.attribute(click("bob", "y"), HOUR_MS) is Unattributed.NOT_IN_LIST, "bob has a list of his own by now"


def test_a_list_written_late_never_becomes_the_last_one():
    lists = ServedLists()
    lists.put(served("ada", "new", "xy", offset=9))
    lists.put(served("ada", "late", "zw", offset=3))
    last = lists.last("ada")
    assert last is not None
    assert last.list_id == "new"
    assert lists.attribute(click("ada", "w", list_id="late"), HOUR_MS) == Attributed("late", "a", 2)


def test_a_list_that_was_sent_is_known_before_it_is_read_back():
    lists = ServedLists()
    lists.put(served("ada", "l1", "xy", offset=1))
    lists.put(served("ada", "l2", "yx", offset=2), read=False)
    last, read = lists.last("ada"), lists.last_read("ada")
    assert last is not None
    assert read is not None
    assert (last.list_id, read.list_id) == ("l2", "l1")
    assert lists.attribute(click("ada", "x", list_id="l2"), HOUR_MS) == Attributed("l2", "a", 2)
    lists.put(served("ada", "l2", "yx", offset=2))
    assert lists.last_read("ada") == lists.last("ada")
    lists.put(served("ada", "l2", "yx", offset=2), read=False)
    assert lists.last_read("ada") == lists.last("ada"), "the answer to a send may come after what was sent"
    assert lists.last_read("bob") is None


def test_of_the_forgotten_nothing_waits_for_a_tombstone_that_has_come_already():
    lists = ServedLists()
    lists.put(served("ada", "l1", "xy", offset=1))
    lists.put(served("ada", "l2", "yx", offset=2), read=False)
    lists.put(served("bob", "b1", "z", offset=3), read=False)
    for user in ("ada", "bob", "nobody"):
        lists.forget_unread(user)
    last = lists.last("ada")
    assert last is not None
    assert (last.list_id, len(lists)) == ("l1", 1), "what was read goes by tombstones alone: it may be of a later life"


def test_what_was_not_read_back_is_not_saved():
    """It will be read after the position that a snapshot is of."""
    lists, again = ServedLists(), ServedLists()
    lists.put(served("ada", "l1", "xy", offset=1))
    lists.put(served("ada", "l2", "yx", offset=2), read=False)
    lists.put(served("bob", "b1", "z", offset=3), read=False)
    again.restore(lists.save())
    assert (len(again), again.last("bob")) == (1, None)
    assert again.last("ada") == lists.last_read("ada")


def test_the_bounds_hold_and_the_oldest_leave_first():
    lists = ServedLists(max_users=2, lists_per_user=2)
    for k, user in enumerate(["ada", "bob", "ada", "cyd"]):
        lists.put(served(user, f"l{k}", "x", offset=k))
    assert len(lists) == 2
    assert lists.last("bob") is None
    for k in range(5):
        lists.put(served("ada", f"m{k}", "x", offset=10 + k))
    assert lists.find("ada", "m2") is None
    assert lists.find("ada", "m3") is not None


def test_a_tombstone_forgets_the_user():
    lists = ServedLists()
    lists.put(served("ada", "l1", "x"))
    lists.forget("ada")
    lists.forget("nobody")
    assert lists.last("ada") is None


def test_putting_the_same_list_again_changes_nothing():
    lists = ServedLists(lists_per_user=2)
    for _ in range(3):
        lists.put(served("ada", "l1", "x", offset=1))
    lists.put(served("ada", "l0", "y", offset=0))
    assert lists.find("ada", "l1") is not None
    assert lists.find("ada", "l0") is not None


def test_impressions_count_only_what_stood_in_the_list_at_the_rank_it_had():
    lists = ServedLists()
    lists.put(served("ada", "l1", "xyz"))
    shown = Impression(event_id="i", user_id="ada", list_id="l1", items=["z", "x", "z", "advert"], timestamp_ms=1)
    assert lists.positions(shown) == ("a", [3, 1])
    assert lists.positions(Impression(event_id="i", user_id="ada", list_id="gone", items=["x"], timestamp_ms=1)) is None


def test_recent_ids_forget_the_oldest():
    ids = RecentIds(capacity=2)
    assert [ids.add(x) for x in "aabca"] == [True, False, True, True, True]
    assert len(ids) == 2


def test_bounds_must_be_positive():
    with pytest.raises(ValueError, match="at least 1"):
        ServedLists(max_users=0)


def test_a_list_made_anew_later_in_the_log_stands_there():
    """Its event came twice, and others between: what was made for the second time is on the topic last, under the same id."""
    lists = ServedLists()
    lists.put(served("ada", "first", "xy", offset=1))
    lists.put(served("ada", "second", "zw", offset=5))
    lists.put(served("ada", "first", "wy", offset=9))
    last = lists.last("ada")
    assert last is not None
    assert (last.list_id, last.items) == ("first", ("w", "y"))
    assert len([1 for offset in (2, 6, 10) if lists.out_before("ada", offset) is not None]) == 2, "it is no longer where it was"
    lists.put(served("ada", "first", "xy", offset=1))
    assert lists.last("ada") == last, "the old one, delivered again, changes nothing"
    lists.put(served("ada", "first", "yw", offset=9))
    again = lists.last("ada")
    assert again is not None
    assert again.items == ("y", "w"), "made anew for the same event it holds"
