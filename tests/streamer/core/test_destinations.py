"""URLs of the configuration do not lead to link-local addresses or to a cloud's credentials."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.destinations import check_address, check_host, check_literal
from streamer.core.errors import ForbiddenDestination

FORBIDDEN = [
    "169.254.169.254",
    "169.254.0.1",
    "fe80::1",
    "fe80::1%eth0",
    "[fe80::1]",
    "fd00:ec2::254",
    "fd20:ce::254",
    "100.100.100.200",
    "168.63.129.16",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a9fe:a9fe",
    "::a9fe:a9fe",
    "::ffff:0:a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "192.0.0.192",
]


@pytest.mark.parametrize("address", FORBIDDEN)
def test_link_local_and_metadata_addresses_are_forbidden(address):
    with pytest.raises(ForbiddenDestination, match=r"network\.allow_link_local"):
        check_address(address)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "::1", "192.168.1.5", "10.0.0.1", "203.0.113.9", "fd00::1", "a name"]
)
def test_all_other_addresses_are_permitted(address):
    check_address(address)


@given(st.integers(0, 2**16 - 1))
def test_the_whole_ipv4_range_is_forbidden_in_each_notation(host):
    address = ipaddress.IPv4Address((169 << 24) + (254 << 16) + host)
    for written in (str(address), str(int(address)), hex(int(address))):
        with pytest.raises(ForbiddenDestination):
            check_literal(f"http://{written}:80/latest/meta-data")


@pytest.mark.parametrize(
    "host",
    [
        "169\u3002254\uff0e169\uff61254",
        "\uff11\uff16\uff19.254.169.254",
        "\u2460\u2465\u2468.254.169.254",
    ],
)
def test_an_address_in_the_digits_and_full_stops_of_other_scripts_is_forbidden(host):
    with pytest.raises(ForbiddenDestination):
        check_literal(f"http://{host}/latest/meta-data")


def test_a_name_is_checked_after_its_resolution_by_each_of_its_addresses():
    with pytest.raises(ForbiddenDestination, match=r"cam\.example is 169\.254\.1\.2"):
        check_host("cam.example", resolve=lambda _host, _port: ["192.0.2.1", "169.254.1.2"])
    check_host("cam.example", resolve=lambda _host, _port: ["192.0.2.1"])


def test_a_name_that_cannot_be_resolved_passes():
    def no_such_name(host, port):
        raise OSError

    check_host("cam.example", resolve=no_such_name)


@pytest.mark.parametrize("url", ["http://[fe80", "rtsp://cam/1", "clip.mp4", "rtsp://user@"])
def test_what_is_no_address_passes(url):
    check_literal(url)
