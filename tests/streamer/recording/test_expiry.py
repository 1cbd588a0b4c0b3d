"""What expires: the pure rules, for anything that has a size and perhaps a time."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.recording.expiry import Item, Limits, Reason, expired, true_times

NOW = datetime(2026, 8, 10, 12, tzinfo=UTC)
DAY = timedelta(days=1)
IN_1970 = datetime(1970, 1, 1, 0, 0, 20, tzinfo=UTC)
IN_2036 = datetime(2036, 8, 10, tzinfo=UTC)


def ago(days):
    return NOW - days * DAY


@pytest.mark.parametrize(
    ("claims", "times"),
    [
        ([ago(3), ago(2), ago(1)], [ago(3), ago(2), ago(1)]),
        ([IN_1970, ago(2), ago(1)], [ago(2), ago(2), ago(1)]),
        ([ago(3), IN_2036, ago(1)], [ago(3), ago(1), ago(1)]),
        ([ago(3), ago(40), ago(1)], [ago(3), ago(1), ago(1)]),
        ([ago(3), None, None, ago(1)], [ago(3), ago(1), ago(1), ago(1)]),
        ([ago(3), None], [ago(3), None]),
        ([IN_1970], [None]),
        ([], []),
    ],
)
def test_a_time_that_cannot_be_is_replaced_by_the_next_one_that_can(claims, times):
    assert true_times(claims, now=NOW) == times


def claims_and_truth():
    """True times in order, and what a clock that is sometimes wrong showed instead."""
    wrong = st.sampled_from([0, 0, 0, -20_000, 3650, -30])
    return st.lists(st.tuples(st.integers(0, 86_400), wrong), max_size=20)


@given(claims_and_truth())
def test_nothing_seems_older_than_it_is_once_the_clock_was_right(steps):
    truth = []
    when = ago(20)
    for seconds, _ in steps:
        when += timedelta(seconds=seconds)
        truth.append(when)
    claims = [true + wrong * DAY for true, (_, wrong) in zip(truth, steps, strict=True)]
    for index, (true, time) in enumerate(zip(truth, true_times(claims, now=NOW), strict=True)):
        once_right = any(wrong == 0 for _, wrong in steps[: index + 1])
        assert time is None or time >= true - timedelta(minutes=5) or not once_right


def items(*ages, size=1000, group="north", **more):
    return [Item(f"{age}", group, size, ago(age), **more) for age in ages]


def keys(found):
    return [item.key for item, _ in found]


def test_without_a_clock_nothing_is_too_old_but_size_still_counts():
    all_items = items(9, 8, 7)
    limits = Limits(max_age=DAY, max_bytes=2000)
    assert keys(expired(all_items, total=limits, now=NOW)) == ["9", "8", "7"]
    assert list(expired(all_items, total=limits, now=None)) == [(all_items[0], Reason.SIZE)]


def test_what_is_protected_stays_and_counts():
    held = items(9, protected=True)
    limits = Limits(max_age=5 * DAY, max_bytes=2000)
    found = list(expired([*held, *items(8, 2, 1)], total=limits, now=NOW))
    assert [(item.key, reason) for item, reason in found] == [
        ("8", Reason.AGE),
        ("2", Reason.SIZE),
    ]


def test_the_limits_of_a_camera_bound_that_camera_only():
    both = items(4, 2, group="north") + items(3, 1, group="south")
    both.sort(key=lambda item: -int(item.key))
    limits = {"north": Limits(max_bytes=1000), "south": Limits(max_age=2 * DAY)}
    found = expired(both, total=Limits(), limits_of=limits.__getitem__, now=NOW)
    assert sorted(keys(found)) == ["3", "4"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["north", "south"]),
            st.integers(1, 5000),
            st.integers(0, 30),
            st.booleans(),
        ),
        max_size=20,
    ),
    st.none() | st.integers(1, 30),
    st.none() | st.integers(1, 20_000),
    st.none() | st.integers(1, 10_000),
)
def test_the_oldest_go_no_more_than_needed_and_the_limits_hold(things, days, size, north):
    things = sorted(things, key=lambda thing: -thing[2])
    all_items = [
        Item(f"{index}", group, weight, ago(age), protected=protected)
        for index, (group, weight, age, protected) in enumerate(things)
    ]
    total = Limits(None if days is None else days * DAY, size)
    groups = {"north": Limits(max_bytes=north), "south": Limits()}
    found = list(expired(all_items, total=total, limits_of=groups.__getitem__, now=NOW))
    gone = keys(found)
    left = [item for item in all_items if item.key not in gone]
    assert len(set(gone)) == len(gone)
    assert not any(item.protected for item, _ in found)
    free = [item for item in left if not item.protected]
    if size is not None:
        assert sum(item.bytes for item in left) <= size or not free
    if north is not None:
        here = [item for item in left if item.group == "north"]
        assert sum(item.bytes for item in here) <= north or all(item.protected for item in here)
    if days is not None:
        assert all(NOW - item.time <= days * DAY for item in free)
    for group in ("north", "south"):
        by_size = [
            int(item.key) for item, why in found if why is Reason.SIZE and item.group == group
        ]
        assert by_size == sorted(by_size)
        assert not by_size or all(
            int(item.key) > by_size[-1] for item in free if item.group == group
        )


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_age": 0 * DAY}, "max_age must be positive"),
        ({"max_bytes": 0}, "max_bytes must be positive, got 0"),
    ],
)
def test_impossible_limits_are_refused(limits, message):
    with pytest.raises(ValueError, match=message):
        Limits(**limits)
