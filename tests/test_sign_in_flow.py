"""Signing in with a stand-in of an OpenID provider, over HTTP, on a server that believes to be a Space: who administers, and who does not.

Needs the libraries of gradio[oauth]. The real provider, Hugging Face, is not asked.
"""

import json
import threading
import time
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from attacks import A_SPACE, API, FILE_FORM, Server, handlers_in, public_server

pytest.importorskip("joserfc", reason="needs gradio[oauth]")
pytest.importorskip("authlib", reason="needs gradio[oauth]")
pytestmark = pytest.mark.slow


class Provider(BaseHTTPRequestHandler):
    """As much of an OpenID provider as the flow asks for; whoever comes is signed in as `server.account`."""

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, value: object, status: int = 200, **headers: str) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        place, query = urlsplit(self.path).path, {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        url = f"http://127.0.0.1:{self.server.server_port}"
        if place.endswith("openid-configuration"):
            named = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "jwks", "userinfo_endpoint": "userinfo"}
            self.answer({"issuer": url, "id_token_signing_alg_values_supported": ["RS256"]} | {name: f"{url}/{last}" for name, last in named.items()})
        elif place == "/jwks":
            self.answer({"keys": [self.server.key.as_dict(private=False) | {"alg": "RS256", "use": "sig"}]})
        elif place == "/authorize":
            self.server.nonce = query.get("nonce", "")
            between = "&" if "?" in query["redirect_uri"] else "?"
            self.answer({}, 302, Location=f"{query['redirect_uri']}{between}code=of-{self.server.account}&state={quote(query['state'])}")
        else:
            self.answer({}, 404)

    def do_POST(self) -> None:
        from joserfc import jwt

        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        name, now = self.server.account, int(time.time())
        claims = {"sub": f"id-of-{name}", "preferred_username": name, "name": name, "profile": "", "picture": "", "nonce": self.server.nonce}
        claims |= {"iss": f"http://127.0.0.1:{self.server.server_port}", "aud": "the-app", "iat": now, "exp": now + 600}
        token = jwt.encode({"alg": "RS256", "kid": self.server.key.kid}, claims, self.server.key)
        self.answer({"access_token": "t", "token_type": "bearer", "expires_in": 600, "id_token": token, "scope": "openid profile"})


@pytest.fixture(scope="module")
def provider():
    from joserfc.jwk import RSAKey

    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    server.key, server.account, server.nonce = RSAKey.generate_key(2048, {"kid": "1"}), "", ""
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


@pytest.fixture(scope="module")
def space(provider):
    environment = A_SPACE | {"SPACE_HOST": "ann-rgtg.example", "RGTG_ADMINS": "ann,id-of-zoe"}
    environment |= {"OPENID_PROVIDER_URL": f"http://127.0.0.1:{provider.server_port}"}
    with public_server(**environment) as server:
        yield server


def sign_in(server: Server, provider: Any, name: str) -> dict[str, str]:
    """Follow the redirects of a browser; the cookies at the end."""
    import http.client

    provider.account = name
    jar: dict[str, str] = {}

    def get(port: int, path: str) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", path, headers={"Cookie": "; ".join(f"{key}={value}" for key, value in jar.items())} if jar else {})
        answer = connection.getresponse()
        for value in answer.headers.get_all("Set-Cookie") or ():
            jar.update({key: morsel.value for key, morsel in SimpleCookie(value).items()})
        place = answer.headers.get("Location", "")
        answer.read()
        return place

    to_provider = get(server.port, "/login/huggingface?_target_url=/train")
    assert to_provider.startswith(f"http://127.0.0.1:{provider.server_port}/authorize?"), to_provider
    back = get(provider.server_port, to_provider.partition(str(provider.server_port))[2])
    assert back.startswith("https://ann-rgtg.example/login/callback?"), back
    assert get(server.port, back.removeprefix("https://ann-rgtg.example")) == "/train"
    return jar


def test_who_is_listed_administers_and_who_is_not_does_not(space, provider):
    found = handlers_in(A_SPACE | {"RGTG_ADMINS": "ann"})
    export = next(number for number, (name, _) in found.items() if name == "exchanging.write_out")
    load = next(number for number, (name, _) in found.items() if name == "train.load")
    event = {"formats": ["preference"], "types": [".jsonl"]}
    for name, administers in (("ann", True), ("zoe", True), ("eve", False), ("Ann", False)):
        jar = sign_in(space, provider, name)
        cookies = "; ".join(f"{key}={value}" for key, value in jar.items())
        exported, opened = space.call(export, [], event, cookies=cookies), space.call(load, [], cookies=cookies)
        assert (exported.mark, opened.mark) == (("a", "a") if administers else ("r", "r")), (name, exported.text[-500:], opened.text[-500:])
        uploaded = space.request("POST", API + "upload", *FILE_FORM, cookies=cookies)
        assert (uploaded.status == 200) is administers, (name, uploaded)
        other = space.request("POST", API + "upload", FILE_FORM[0], FILE_FORM[1] | {"Origin": "http://evil.example"}, cookies=cookies)
        assert other.status == 403, "another site cannot act for an administrator"


def test_a_session_that_was_changed_is_nobody(space, provider):
    jar = sign_in(space, provider, "ann")
    body, _, signature = jar["session"].partition(".")
    for forged in (f"{body}A.{signature}", f"{body}.{signature[:-2]}", body, "", "a.b.c"):
        assert space.request("POST", API + "upload", *FILE_FORM, cookies=f"session={forged}").status == 403


def test_the_button_is_on_every_page(space):
    for page in ("/", "/train", "/models"):
        assert "Sign in with Hugging Face" in space.request("GET", page).text, page
