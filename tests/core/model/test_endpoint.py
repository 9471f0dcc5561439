import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.model.endpoint import DATA_CENTERS, Endpoint


@pytest.mark.parametrize(
    ("text", "url", "label"),
    [
        ("https://api-01.moengage.com", "https://api-01.moengage.com", "api-01.moengage.com"),
        ("https://API-01.MoEngage.com:443/", "https://api-01.moengage.com", "api-01.moengage.com"),
        ("https://proxy.corp:8443", "https://proxy.corp:8443", "proxy.corp:8443"),
        ("http://127.0.0.1:8765", "http://127.0.0.1:8765", "EMULATOR 127.0.0.1:8765"),
        ("http://127.9.9.9", "http://127.9.9.9", "EMULATOR 127.9.9.9:80"),
        ("https://localhost:1", "https://localhost:1", "EMULATOR localhost:1"),
        ("http://[::1]:8765", "http://[::1]:8765", "EMULATOR [::1]:8765"),
        ("http://[0:0::1]:8765", "http://[::1]:8765", "EMULATOR [::1]:8765"),
        ("https://[2001:db8::7]", "https://[2001:db8::7]", "[2001:db8::7]"),
        ("https://10.0.0.7", "https://10.0.0.7", "10.0.0.7"),
    ],
)
def test_an_endpoint_has_one_url_and_shows_whether_it_is_the_emulator(
    text: str, url: str, label: str
) -> None:
    endpoint = Endpoint.parse(text)
    assert (endpoint.url, endpoint.label) == (url, label)
    assert endpoint.is_loopback == label.startswith("EMULATOR ")


@pytest.mark.parametrize(
    ("text", "clause"),
    [
        ("", "should begin with https://"),
        ("api-01.moengage.com", "should begin with https://"),
        ("ftp://127.0.0.1", "should begin with https://"),
        ("http://api-01.moengage.com", "should begin with https://: over http"),
        ("http://127.0.0.1.example.com", "should begin with https://: over http"),
        ("http://localhost.example.com:80", "should begin with https://: over http"),
        ("http://0.0.0.0:8765", "should begin with https://: over http"),
        ("http://127.1:8765", "should begin with https://: over http"),
        ("https://user:secret@example.com", "may not hold a user"),
        ("https://127.0.0.1@example.com", "may not hold a user"),
        ("https://example.com/v1", "should end after the port"),
        ("https://example.com?", "should end after the port"),
        ("https://example.com#", "should end after the port"),
        ("https://example.com:0", "a port from 1 to 65535"),
        ("https://example.com:65536", "a port from 1 to 65535"),
        ("https://example.com:https", "a port from 1 to 65535"),
        ("https://[::1", "should be scheme://host:port"),
        ("https://", "should name a host"),
        ("https://exam ple.com", "should name a host"),
        ("https://exämple.com", "should name a host"),
        ("https://[fe80::1%eth0]", "may not hold a zone"),
        # What the resolver would fail on, by an error of its own.
        ("https://a..example.com", "should name a host"),
        (f"https://{'a' * 64}.com", "should name a host"),
        (f"https://{'a.' * 127}com", "should name a host"),
    ],
)
def test_what_is_no_endpoint_is_refused_with_a_reason(text: str, clause: str) -> None:
    with pytest.raises(ValueError, match=clause) as caught:
        Endpoint.parse(text)
    assert "secret" not in str(caught.value)


@given(
    st.sampled_from(["http", "https"]),
    st.ip_addresses() | st.from_regex(r"[a-z0-9]{1,9}(\.[a-z]{1,9})?", fullmatch=True),
    st.integers(1, 65_535),
)
def test_a_url_reads_back_as_the_same_endpoint(scheme: str, host: object, port: int) -> None:
    shown = f"[{host}]" if ":" in str(host) else host
    try:
        endpoint = Endpoint.parse(f"{scheme}://{shown}:{port}")
    except ValueError:
        assert scheme == "http"
        return
    assert Endpoint.parse(endpoint.url) == endpoint
    assert endpoint.is_loopback or scheme == "https"


@pytest.mark.parametrize("data_center", DATA_CENTERS)
def test_a_data_center_names_the_vendors_host(data_center: str) -> None:
    assert Endpoint.of_data_center(data_center).url == f"https://api-{data_center}.moengage.com"


@pytest.mark.parametrize("data_center", ["1", "07", "", "01.evil.example"])
def test_an_unknown_data_center_is_refused(data_center: str) -> None:
    with pytest.raises(ValueError, match="should be one of 01, 02"):
        Endpoint.of_data_center(data_center)
