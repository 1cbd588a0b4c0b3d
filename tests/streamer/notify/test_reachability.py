"""When a channel counts as down, and when as up again."""

from hypothesis import given
from hypothesis import strategies as st

from streamer.notify.reachability import Reachability

S = 1_000_000_000


def test_one_lost_probe_is_no_outage():
    channel = Reachability(120)
    assert channel.failed(0, "refused", delivery=False) is None
    assert channel.checked(10 * S) is None
    assert (channel.down, channel.reason) == (False, "")


def test_a_channel_that_keeps_failing_is_down_once_and_up_once():
    channel = Reachability(120)
    changes = [channel.failed(each * S, "refused", delivery=False) for each in (0, 10, 20, 50, 80)]
    assert [change is not None for change in changes] == [False, False, True, False, False]
    assert changes[2].down
    assert changes[2].since_ns == 0, "since the first failure"
    assert channel.checked(110 * S) is None
    up = channel.checked(120 * S)
    assert (up.down, up.since_ns, up.reason) == (False, 0, "refused")


def test_many_failures_within_seconds_are_no_outage_yet():
    channel = Reachability(120)
    assert not any(channel.failed(n * S // 10, "refused", delivery=True) for n in range(50))


def test_a_confirmed_delivery_ends_an_outage_at_once():
    channel = Reachability(None)
    for each in (0, 10, 20):
        channel.failed(each * S, "answered 500", delivery=True)
    assert channel.down
    assert channel.delivered(21 * S).down is False


def test_a_receiver_that_accepts_connections_and_no_messages_stays_down():
    channel = Reachability(60)
    for each in (0, 10, 20):
        channel.failed(each * S, "answered 500", delivery=True)
    assert [channel.checked(each * S) for each in (30, 40, 50)] == [None] * 3
    assert channel.down
    channel.nothing_waits()  # A person gave up on the deliveries.
    assert channel.checked(60 * S) is None
    assert channel.checked(70 * S).down is False


def test_checks_are_rare_while_all_is_well_and_frequent_in_doubt():
    channel = Reachability(120)
    assert channel.check_due(0), "at the start, at once"
    channel.checked(0)
    assert channel.until_check_s(0) == 120
    channel.failed(120 * S, "refused", delivery=False)
    assert channel.until_check_s(120 * S) == 10
    for each in (130, 140):
        channel.failed(each * S, "refused", delivery=False)
    assert channel.until_check_s(140 * S) == 30
    assert not Reachability(None).check_due(10**18)


@given(st.lists(st.tuples(st.sampled_from("cdf"), st.integers(1, 40)), max_size=60))
def test_changes_alternate_and_a_success_never_makes_an_outage(steps):
    channel, now, last = Reachability(120), 0, False
    for kind, seconds in steps:
        now += seconds * S
        match kind:
            case "c":
                change = channel.checked(now)
            case "d":
                change = channel.delivered(now)
            case _:
                change = channel.failed(now, "refused", delivery=seconds % 2 == 0)
        if change is not None:
            assert change.down is not last
            assert change.down == (kind == "f")
            assert change.since_ns <= now
            last = change.down
        assert channel.down is last
        assert channel.until_check_s(now) <= 120
