from hypothesis import given
from hypothesis import strategies as st

from streamer.core.log_limit import LogLimit

S = 1_000_000_000


def test_a_burst_is_admitted_then_one_line_each_interval_with_the_count_of_the_others():
    limit = LogLimit(burst=2, refill_ns=10 * S)
    admitted = [limit.admit(second * S) for second in range(21)]
    assert [at for at, withheld in enumerate(admitted) if withheld is not None] == [0, 1, 10, 20]
    assert [withheld for withheld in admitted if withheld is not None] == [0, 0, 8, 9]


def test_a_quiet_time_admits_a_burst_again():
    limit = LogLimit(burst=3, refill_ns=10 * S)
    assert [limit.admit(0) for _ in range(4)] == [0, 0, 0, None]
    assert [limit.admit(100 * S) for _ in range(4)] == [1, 0, 0, None]


@given(steps=st.lists(st.integers(0, 30 * S), max_size=200), burst=st.integers(1, 5))
def test_no_line_is_lost_from_the_count_and_no_interval_has_more_than_its_share(steps, burst):
    limit = LogLimit(burst=burst, refill_ns=10 * S)
    now_ns, admitted, withheld = 0, 0, 0
    for step in steps:
        now_ns += step
        answer = limit.admit(now_ns)
        if answer is not None:
            admitted += 1
            withheld += answer
    assert admitted <= burst + now_ns // (10 * S)
    rest = limit.admit(now_ns + 1000 * S)
    assert rest is not None
    assert admitted + withheld + rest == len(steps)
