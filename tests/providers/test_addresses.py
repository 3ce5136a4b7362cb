"""How the URL of a source is written, and which addresses are public."""

import ipaddress
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ims.providers.addresses import (
    MAX_URL_CHARACTERS,
    BadAddress,
    OpenHosts,
    is_public,
    parse_url,
)

CHARACTERS = st.sampled_from([*"htps:/[]@.?#%\\-_~!$&'()*+,;= \t\r\n\0", *"0179aAfFxX", *"éß。①\u212a"])
URLS = st.one_of(
    st.text(),
    st.builds("https://{}".format, st.text(CHARACTERS)),
    st.builds(
        lambda url, place, what: url[:place] + what + url[place:],
        st.sampled_from(["https://example.com/a?b", "http://93.184.216.34:80", "https://[2606::1]:1/"]),
        st.integers(0, 22),
        st.text(CHARACTERS, max_size=3),
    ),
    st.builds(
        "http://{}:{}/{}".format, st.text(CHARACTERS), st.integers(-1, 70000), st.text(CHARACTERS)
    ),
)
PUBLIC_V4 = "93.184.216.34"


class TestUrls:
    @pytest.mark.parametrize(
        ("url", "host", "port", "target"),
        [
            ("https://example.com", "example.com", 443, "/"),
            ("https://example.com?a=b", "example.com", 443, "/?a=b"),
            ("HTTPS://Example.COM:8443/A/b%20c?d=e&f", "example.com", 8443, "/A/b%20c?d=e&f"),
            ("http://a-1.example.com/", "a-1.example.com", 80, "/"),
            ("https://xn--bcher-kva.example/", "xn--bcher-kva.example", 443, "/"),
            ("https://93.184.216.34:65535/", "93.184.216.34", 65535, "/"),
            ("https://[2606:2800:0220:1::1]/", "2606:2800:220:1::1", 443, "/"),
        ],
    )
    def test_a_plain_url_is_taken_apart(self, url, host, port, target):
        location = parse_url(url)

        assert (location.host, location.port, location.target) == (host, port, target)

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "example.com/a",
            "//example.com/a",
            "https:example.com",
            "https:/example.com",
            "https:///a",
            "https://",
            "ftp://example.com/",
            "file:///etc/passwd",
            "gopher://example.com/",
            "https://user@example.com/",
            "https://user:password@example.com/",
            "https://@example.com/",
            "https://example.com:/",
            "https://example.com:0/",
            "https://example.com:65536/",
            "https://example.com:0443/",
            "https://example.com:+443/",
            "https://example.com:4٣/",
            "https://example.com./",
            "https://.example.com/",
            "https://a..example.com/",
            "https://-a.example.com/",
            "https://a-.example.com/",
            "https://my_host.example.com/",
            f"https://{'a' * 64}.example.com/",
            "https://exämple.com/",
            "https://example。com/",
            "https://ex%61mple.com/",
            "https://example.com\\@evil.example/",
            "https:\\\\example.com/",
            "https://example.com/a b",
            "https://example.com/\ta",
            "https://example.com/a\n",
            "https://exam\nple.com/",
            " https://example.com/",
            "https://example.com/#part",
            "https://example.com/ä",
            "https://example.com/\x00",
            "https://[2606:2800:220:1::1%25eth0]/",
            "https://[2606:2800:220:1::1%eth0]/",
            "https://[2606:2800:220:1::1/",
            "https://2606:2800:220:1::1/",
            "https://[::g]/",
            "https://[93.184.216.34]/",
            "https://93.184.216.034/",
            "https://93.184.216/",
            "https://256.184.216.34/",
            "https://0x5d.184.216.34/",
            "https://example.0x1/",
            "https://example.42/",
        ],
    )
    def test_what_two_readers_could_understand_differently_is_refused(self, url):
        with pytest.raises(BadAddress):
            parse_url(url)

    def test_a_url_has_a_bounded_length(self):
        longest = "https://example.com/".ljust(MAX_URL_CHARACTERS, "a")

        assert parse_url(longest).url == longest
        with pytest.raises(BadAddress):
            parse_url(longest + "a")

    @given(URLS)
    @example("https://\u212aelvin.example/")
    @example("https://example.com/\u017f")
    def test_whatever_is_accepted_means_one_thing_to_everybody(self, url):
        try:
            location = parse_url(url)
        except BadAddress:
            return

        other = urlsplit(url)
        assert other.scheme == location.scheme
        if location.address is None:
            assert other.hostname == location.host
        else:
            assert ipaddress.ip_address(other.hostname) == location.address
        assert (other.port or {"https": 443, "http": 80}[other.scheme]) == location.port
        assert url.isascii()
        assert other.username is None
        assert parse_url(location.url) == location

    @given(st.integers(0, 2**32 - 1), st.sampled_from(["{:d}", "{:#x}", "0{:o}", "{:#X}"]))
    def test_an_address_in_one_number_is_refused(self, number, spelling):
        with pytest.raises(BadAddress):
            parse_url(f"https://{spelling.format(number)}/")

    @given(
        st.lists(st.integers(0, 255), min_size=1, max_size=4),
        st.lists(st.sampled_from(["{:d}", "{:#x}", "0{:o}", "00{:d}"]), min_size=4, max_size=4),
    )
    def test_an_address_is_four_decimal_numbers_and_nothing_else(self, numbers, spellings):
        host = ".".join(how.format(each) for how, each in zip(spellings, numbers, strict=False))
        plain = ".".join(map(str, numbers))

        if host == plain and len(numbers) == 4:
            assert parse_url(f"https://{host}/").host == plain
        else:
            with pytest.raises(BadAddress):
                parse_url(f"https://{host}/")


class TestRedirects:
    START = parse_url("https://example.com/a/b?c")

    @pytest.mark.parametrize(
        ("reference", "url"),
        [
            ("https://other.example/x", "https://other.example/x"),
            ("/x?y", "https://example.com/x?y"),
            ("x", "https://example.com/a/x"),
            ("../../x", "https://example.com/x"),
            ("?z", "https://example.com/a/b?z"),
            ("//other.example:8443/x", "https://other.example:8443/x"),
            ("/x#part", "https://example.com/x"),
        ],
    )
    def test_a_reference_is_followed_from_where_it_stands(self, reference, url):
        assert self.START.redirected(reference).url == url

    @pytest.mark.parametrize(
        "reference",
        [
            "",
            "file:///etc/passwd",
            "\\\\other.example\\x",
            "/\\other.example/x",
            "//user@other.example/",
            "//0x7f.1/",
            "https://[::1/",
            "/a b",
            "\t/x",
            "/é",
            "javascript:1",
        ],
    )
    def test_a_reference_that_is_not_plain_is_refused(self, reference):
        with pytest.raises(BadAddress):
            self.START.redirected(reference)

    @given(st.text(CHARACTERS))
    def test_no_reference_leads_to_what_would_not_be_accepted_by_itself(self, reference):
        try:
            location = self.START.redirected(reference)
        except BadAddress:
            return

        assert parse_url(location.url) == location


NOT_PUBLIC = (
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200"),
    *("100.127.255.255", "127.0.0.1", "127.255.255.254", "168.63.129.16", "169.254.0.1"),
    *("169.254.169.254", "169.254.170.2", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.9"),
    *("192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.0.1", "192.168.255.255", "198.18.0.1"),
    *("198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1"),
    *("255.255.255.255", "::", "::1", "::7f00:1", "::93.184.216.34", "::ffff:127.0.0.1"),
    *("::ffff:169.254.169.254", "::ffff:93.184.216.34", "::ffff:0:127.0.0.1", "64:ff9b::7f00:1"),
    *("64:ff9b::a9fe:a9fe", "64:ff9b:1::7f00:1", "100::1", "2001::1", "2001:0:7f00:1::"),
    *("2001:2::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::1", "2002:a9fe:a9fe::"),
    *("2606:2800::5efe:7f00:1", "2606:2800::200:5efe:10.0.0.1", "3fff::1", "5f00::1", "fc00::1"),
    *("fd00:ec2::254", "fd12:3456::1", "fe80::1", "fe80::1%eth0", "febf::1", "fec0::1", "ff02::1"),
    *("ff05::2", "4000::1"),
)


class TestPublicAddresses:
    @pytest.mark.parametrize("address", NOT_PUBLIC)
    def test_an_address_that_is_nobodys_or_ones_own_is_not_public(self, address):
        assert not is_public(ipaddress.ip_address(address))

    @pytest.mark.parametrize(
        "address",
        [
            *(PUBLIC_V4, "1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0"),
            *("126.255.255.255", "128.0.0.0", "169.253.255.255", "169.255.0.0", "172.15.255.255"),
            *("172.32.0.0", "192.167.255.255", "192.169.0.0", "223.255.255.255"),
            *("2606:2800:220:1::1", "2a00:1450:4001::1", "2001:4860:4860::8888"),
        ],
    )
    def test_the_addresses_beside_them_are(self, address):
        assert is_public(ipaddress.ip_address(address))

    @given(st.integers(0, 2**32 - 1))
    def test_no_public_ipv6_address_holds_an_ipv4_address(self, number):
        v4 = ipaddress.IPv4Address(number)
        for prefix in ("::", "::ffff:", "64:ff9b::", "fe80::5efe:", "2606:2800::5efe:"):
            assert not is_public(ipaddress.IPv6Address(f"{prefix}{v4}"))
        assert not is_public(ipaddress.IPv6Address((0x2002 << 112) | (number << 80)))
        assert not is_public(ipaddress.IPv6Address((0x20010000 << 96) | (number << 64)))

    @given(st.ip_addresses())
    def test_nothing_is_public_that_the_library_knows_not_to_be(self, address):
        if is_public(address):
            assert address.is_global
            assert not address.is_multicast
            assert not address.is_reserved
            assert not address.is_link_local


class TestOpenHosts:
    OPEN = OpenHosts.named(["files.example", "10.0.0.1:8080", "[fd00::1]", "Mixed.Example:443"])

    @pytest.mark.parametrize(
        "url",
        [
            "https://files.example/a",
            "http://files.example/",
            "https://FILES.example:443/",
            "http://10.0.0.1:8080/",
            "https://10.0.0.1:8080/",
            "https://[fd00:0::1]/",
            "https://mixed.example/",
            "http://mixed.example:443/",
        ],
    )
    def test_what_is_named_is_open(self, url):
        assert parse_url(url) in self.OPEN

    @pytest.mark.parametrize(
        "url",
        [
            "https://files.example:8443/",
            "https://a.files.example/",
            "https://example/",
            "http://10.0.0.1/",
            "https://10.0.0.1:8081/",
            "https://[fd00::2]/",
            "http://mixed.example/",
        ],
    )
    def test_nothing_else_is(self, url):
        assert parse_url(url) not in self.OPEN

    @pytest.mark.parametrize(
        "name", ["", "a:", "a:0", "https://a", "a/b", "*.example", "fd00::1", "127.1", "a b"]
    )
    def test_a_name_that_is_no_host_is_refused(self, name):
        with pytest.raises(BadAddress):
            OpenHosts.named([name])
