"""Which names an app may be asked for, and which pages may ask: what a browser or an attacker can write into the headers."""

import pytest

from pages.hosts import Hosts, Refused, host_of, host_of_url
from rgtg.config import Settings
from rgtg.errors import BadSettings


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        ("localhost", "localhost"), ("LocalHost.:7860", "localhost"), ("127.0.0.1:", "127.0.0.1"), ("[::1]:7860", "::1"), ("[0:0:0::1]", "::1"),
        ("[::FFFF:127.0.0.1]", "127.0.0.1"), ("a-b.example", "a-b.example"), ("localhost.evil.com", "localhost.evil.com"),
        ("", None), (".", None), ("::1", None), ("[::1", None), ("[evil]", None), ("localhost@evil.com", None), ("localhost:7860@evil.com", None),
        ("localhost evil.com", None), ("localhost,evil.com", None), ("localhost/evil.com", None), ("localhost:port", None), ("héhé", None),
    ],
)  # fmt: skip
def test_a_host_has_one_spelling(authority: str, host: str | None):
    assert host_of(authority) == host


def test_the_host_of_an_origin_is_that_of_a_web_page():
    assert host_of_url("http://localhost:7860") == "localhost" and host_of_url("HTTPS://A.example/x?y") == "a.example"
    none = ("null", "file://", "http://", "data:x", "http://localhost:7860@evil.com", "javascript://localhost")
    assert {host_of_url(url) for url in none} == {None}


def status(hosts: Hosts, method: str = "GET", path: str = "/", **headers: str) -> int:
    """What such a request gets: 200 where it is passed on. `x_y="a"` is the header `X-Y: a`; a default `Host` is there unless it is given."""
    given = {"host": "localhost:7860"} | headers
    try:
        hosts.check([(name.replace("_", "-").encode(), value.encode()) for name, value in given.items()], method, path)
    except Refused as refused:
        return refused.status
    return 200


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1", "127.8.8.8", "[::1]:7860", "LOCALHOST.", "rgtg.example.org"])
def test_loopback_and_the_names_of_the_settings_are_known(host: str):
    assert status(Hosts.of(Settings(hosts=("RGTG.example.org",))), host=host) == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.com", "rgtg.example.org.evil.com", "192.168.1.5", "0.0.0.0", "127.1", "2130706433", "[::2]"]
)
def test_any_other_name_is_refused(host: str):
    assert status(Hosts.of(Settings(hosts=("rgtg.example.org",))), host=host) == 403


def test_the_address_that_the_server_listens_on_is_known_and_everywhere_means_any_address_but_no_name():
    lan, everywhere = Hosts.of(Settings(), "192.168.1.5"), Hosts.of(Settings(), "0.0.0.0")
    assert (status(lan, host="192.168.1.5:7860"), status(lan, host="192.168.1.6")) == (200, 403)
    assert status(Hosts.of(Settings(), "[fe80::1]"), host="[FE80::1]:7860") == 200 == status(Hosts.of(Settings(), "fe80::1"), host="[fe80::1]")
    assert (status(everywhere, host="192.168.1.5:7860"), status(everywhere, host="[fe80::1]"), status(everywhere, host="evil.example")) == (
        200,
        200,
        403,
    )
    assert status(everywhere, host="192.168.1.5", origin="http://192.168.1.6") == 403
    assert status(everywhere, host="192.168.1.5", origin="http://localhost:3000") == 403  # a page on the visitor's own machine


def test_a_request_names_one_host():
    for headers in ([], [(b"host", b"localhost"), (b"host", b"evil.example")], [(b"host", b"")], [(b"host", b"a@localhost")]):
        with pytest.raises(Refused) as refused:
            Hosts().check(headers)
        assert refused.value.status == 400


def test_what_a_proxy_says_counts_on_a_space_alone():
    laptop, space = Hosts.of(Settings()), Hosts.of(Settings(space_hosts=("user-app.hf.space",)))
    assert status(laptop, host="evil.example", x_forwarded_host="localhost") == 403
    assert status(laptop, x_forwarded_host="evil.example") == 403 == status(laptop, x_gradio_server="http://evil.example/")
    assert status(laptop, x_forwarded_host="localhost:8080") == 200
    assert status(space, host="10.0.0.7:7860") == 200 == status(space, host="inner", x_forwarded_host="user-app.hf.space, inner")
    assert status(space, host="user-app.hf.space", x_forwarded_host="evil.example") == 403 == status(space, host="inner")
    own_page = {"host": "10.0.0.7", "x_forwarded_host": "user-app.hf.space", "origin": "https://user-app.hf.space"}
    assert status(space, "POST", **own_page) == 200
    assert status(space, "POST", **own_page | {"origin": "https://evil.hf.space"}) == 403


@pytest.mark.parametrize("origin", ["null", "http://evil.example", "http://localhost.evil.com", "file://", "", "http://127.0.0.1@evil.com"])
def test_a_page_elsewhere_is_refused(origin: str):
    assert status(Hosts(), origin=origin) == 403 == status(Hosts(), "OPTIONS", origin=origin, access_control_request_method="POST")
    assert status(Hosts(), "POST", referer=origin or "x") == 403  # where a browser says no more than that
    assert status(Hosts(), "GET", referer=origin or "x") == 200  # a link


def test_the_own_page_may_ask():
    assert {status(Hosts(), "POST", origin=origin) for origin in ("http://localhost:7860", "http://127.0.0.1:7860", "http://[::1]")} == {200}
    assert status(Hosts(frozenset({"rgtg.example.org"})), "POST", host="127.0.0.1:7860", origin="https://rgtg.example.org") == 200  # behind a proxy


def test_a_page_elsewhere_may_link_to_a_page_and_no_more():
    link = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
    assert status(Hosts(), **link) == 200 and status(Hosts(), path="/gradio_api/heartbeat/x", **link) == 403
    assert status(Hosts(), **link | {"sec_fetch_dest": "iframe"}) == 403
    assert status(Hosts(proxied=True), **link | {"sec_fetch_dest": "iframe"}) == 200  # the hub shows a Space in a frame
    assert status(Hosts(), **link | {"sec_fetch_mode": "no-cors", "sec_fetch_dest": "script"}) == 403
    assert status(Hosts(), path="/gradio_api/info", sec_fetch_site="same-origin", sec_fetch_mode="cors") == 200


def test_a_refusal_says_how_a_name_is_allowed_and_repeats_no_markup():
    with pytest.raises(Refused, match="RGTG_HOSTS=evil.example"):
        Hosts().check([(b"host", b"evil.example")])
    with pytest.raises(Refused) as refused:
        Hosts().check([(b"host", b"localhost"), (b"origin", b"http://<b>\x1b[31m`x`")])
    assert refused.value.found == "The request comes from `http://?b??[31m?x?`."


def test_a_setting_that_is_no_host_is_said():
    assert Hosts.of(Settings(hosts=("https://rgtg.example.org/app",))).names == {"127.0.0.1", "rgtg.example.org"}
    with pytest.raises(BadSettings, match="RGTG_HOSTS"):
        Hosts.of(Settings(hosts=("a b",)))


def test_the_names_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("RGTG_HOSTS", "a.example, b.example,")
    monkeypatch.setenv("SPACE_HOST", "user-app.hf.space")
    settings = Settings.from_environment()
    assert settings.hosts == ("a.example", "b.example") and settings.space_hosts == ("user-app.hf.space",)
