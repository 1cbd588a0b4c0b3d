import re

from hypothesis import given
from hypothesis import strategies as st

from streamer.core.file_names import safe_file_name


@given(name=st.text())
def test_any_name_becomes_one_that_stays_within_the_root(name):
    assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,108}", safe_file_name(name))


def test_an_ordinary_name_stays_and_two_odd_ones_share_no_folder():
    assert safe_file_name("north-20260801T140500.250Z") == "north-20260801T140500.250Z"
    odd = ["a/b", "a b", "a:b", "a_b", "../a_b", ".a_b", "x" * 101, "x" * 102, "ä", "ö", ""]
    assert len({safe_file_name(name) for name in odd}) == len(odd)


def test_letters_lose_their_accents_so_that_people_recognise_the_file():
    assert safe_file_name("Süd-Turm_2").startswith("Sud-Turm_2-")
    assert safe_file_name("Süd") != safe_file_name("Sud")
