"""The door in front of Gradio, by raw HTTP against the launched app and by single ASGI calls. No model is loaded."""

import asyncio
import http.client
import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import app
from pages import guard, temporary
from pages.guard import MAX_BODY, Guard, check_json
from pages.hosts import Hosts, Refused
from rgtg.config import MAX_COLUMNS, Settings
from rgtg.workbench.workbench import Workbench

JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "multipart/form-data; boundary=x"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where uploads and downloads lie."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        yield Path(os.environ["GRADIO_TEMP_DIR"])


@pytest.fixture(scope="module")
def port(folder, tmp_path_factory):
    """The app as `python app.py` launches it, on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    bench = Workbench(Settings(data_dir=tmp_path_factory.mktemp("data")))
    demo = app.build_app(bench)
    (folder / "left behind").write_text("by an app that was killed")
    os.utime(folder / "left behind", (time.time() - 4000,) * 2)
    demo.launch(server_name="127.0.0.1", server_port=number, prevent_thread_lock=True, quiet=True, **app.launch_settings(bench.settings))
    yield number
    demo.close(verbose=False)
    bench.close()


def raw(port: int, text: bytes) -> tuple[int, str]:
    """Status and body of the answer to these very bytes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(text)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status, answer.read().decode()


def ask(port: int, method: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path, body if body is None or isinstance(body, bytes) else json.dumps(body), headers or JSON, encode_chunked=True)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def until(seen: Callable[[], bool]) -> bool:
    """Whether this is so within ten seconds: files go behind the answer."""
    return any(seen() or time.sleep(0.02) for _ in range(500))


def says(answer: tuple[int, str], status: int, words: str) -> bool:
    """Whether a refusal has this status and these words, in the shape that refusals have."""
    found = json.loads(answer[1])
    return answer[0] == status and set(found) == {"error", "found", "do"} and words in found["error"]


# ---- who asks ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /config HTTP/1.1\r\nHost: localhost:7860\r\n", 200),
        (b"GET /config HTTP/1.1\r\nHost: [::1]\r\n", 200),
        (b"GET /config HTTP/1.1\r\nHost: evil.example\r\n", 403),
        (b"GET /config HTTP/1.1\r\nHost: localhost.evil.com\r\n", 403),
        (b"GET /config HTTP/1.1\r\nHost: \r\n", 400),
        (b"GET /config HTTP/1.0\r\n", 400),
        (b"GET /config HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n", 400),
        (b"GET http://evil.example/config HTTP/1.1\r\nHost: localhost\r\n", 400),
        (b"GET http://localhost/config HTTP/1.1\r\nHost: evil.example\r\n", 400),
        (b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n", 400),
        (b"OPTIONS /gradio_api/queue/join HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\nAccess-Control-Request-Method: POST\r\n", 403),
        (b"OPTIONS /gradio_api/queue/join HTTP/1.1\r\nHost: a.b\r\nOrigin: http://a.b\r\nAccess-Control-Request-Method: POST\r\n", 403),
        (b"OPTIONS /gradio_api/queue/join HTTP/1.1\r\nHost: [::1]\r\nOrigin: http://[::1]\r\nAccess-Control-Request-Method: POST\r\n", 200),
        (b"GET /gradio_api/queue/data HTTP/1.1\r\nHost: evil.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n", 403),
    ],
)
def test_a_foreign_name_reaches_nothing(port: int, head: bytes, status: int):
    assert raw(port, head + b"\r\n")[0] == status


def test_a_page_of_a_foreign_name_neither_reads_nor_acts(port: int):
    evil = JSON | {"Host": "evil.example", "Origin": "http://evil.example"}
    for method, path in (("GET", "/"), ("GET", "/train"), ("GET", "/theme.css"), ("POST", "/gradio_api/queue/join"), ("POST", "/gradio_api/upload")):
        assert says(ask(port, method, path, {} if method == "POST" else None, evil), 403, "does not answer under that name")
    assert says(ask(port, "POST", "/gradio_api/call/generate", {"data": []}, JSON | {"Origin": "http://evil.example"}), 403, "Another site may not")


def test_the_guard_stands_before_websockets_too():
    sent = []

    async def refuse() -> None:
        async def receive():
            return {"type": "websocket.connect"}

        async def send(message):
            sent.append(message)

        scope = {"type": "websocket", "path": "/gradio_api/queue/data", "headers": [(b"host", b"evil.example")]}
        await Guard(None, Hosts())(scope, receive, send)  # type: ignore[arg-type]

    asyncio.run(refuse())
    assert [(message["type"], message["code"]) for message in sent] == [("websocket.close", 1008)]


# ---- routes -----------------------------------------------------------------------------------------------------------------


def test_routes_that_no_page_uses_are_closed(port: int):
    closed = "proxy=http://x.hf.space/ component_server deep_link dev/reload mcp/sse vibe-code openapi.json run/generate api/generate stream/a/b"
    for name in (closed + " process_recording run-history/records queue/status token file/etc/passwd user monitoring /upload").split():
        assert says(ask(port, "GET", f"/gradio_api/{name}"), 403, "closed"), name
    for name in ("component_server", "process_recording", "vibe-edit", "run/generate", "%2e/upload", "mcp", "custom_component/a/b/c/d"):
        assert says(ask(port, "POST", f"/gradio_api/{name}", {}), 403, "closed"), name
    assert says(ask(port, "POST", "/login", {}), 403, "accepts no data") and says(
        ask(port, "POST", "//gradio_api/upload", {}), 403, "accepts no data"
    )
    for place in ("https://example.com/x", "http://127.0.0.1:9/", "%0ahttp://a/", "//example.com/x", "ftp://a/b"):
        assert says(ask(port, "GET", f"/gradio_api/file={place}"), 403, "does not fetch"), place
    assert ask(port, "GET", "/gradio_api/file=/etc/passwd")[0] == 403


def test_what_a_page_and_a_client_need_is_open(port: int):
    for path in ("/", "/train", "/models", "/config", "/theme.css", "/gradio_api/info", "/gradio_api/startup-events"):
        assert ask(port, "GET", path)[0] == 200, path


# ---- bodies -----------------------------------------------------------------------------------------------------------------


def test_a_long_body_is_refused_by_its_length_and_while_it_comes(port: int):
    assert says(ask(port, "POST", "/gradio_api/queue/join", b"[" * 2_000_000), 413, "too long")
    head = b"POST /gradio_api/queue/join HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    assert says(raw(port, head + b"Content-Length: 16000000\r\n\r\n["), 413, "too long")  # nobody waits for the rest
    chunk = b"186a0\r\n" + b"[" * 100_000 + b"\r\n"
    assert says(raw(port, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 11), 413, "too long")  # nor for the last chunk


def test_no_more_of_a_body_is_held_than_is_read():
    """However long it is, and however many come at a time: what is held is bounded, and Gradio sees nothing of it."""
    taken, reached, answers = [0, 0, 0], [], []

    async def gradio(scope, receive, send):
        reached.append(scope)

    async def one(number: int) -> None:
        async def receive():
            await asyncio.sleep(0)
            taken[number] += 65_536
            return {"type": "http.request", "body": b"[" * 65_536, "more_body": True}

        async def send(message):
            answers.append(message.get("status"))

        headers = [(b"host", b"localhost"), (b"transfer-encoding", b"chunked")]
        scope = {"type": "http", "method": "POST", "path": "/gradio_api/queue/join", "headers": headers}
        await Guard(gradio, Hosts())(scope, receive, send)

    async def three() -> None:
        await asyncio.gather(*map(one, range(3)))

    asyncio.run(three())
    assert max(taken) <= MAX_BODY + 65_536 and not reached and answers == [413, None] * 3


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"data": ' + b"[" * 40 + b"]" * 40 + b"}", "too deep"),
        (b"[" * 900_000, "too deep"),
        (b'{"a":' * 150_000, "too deep"),
        (b'{"data": [' + b"[]," * 20_000 + b"0]}", "too many parts"),
        (b'{"data": [' + b"0," * 20_000 + b"0]}", "too many parts"),
        (b'{"data": "' + b"\\" * 900_000, "not JSON"),
        (("[" * 40).encode("utf-16-le"), "NUL"),
        (b'{"data": ["\xff"]}', "not JSON"),
        (b'{"data": [' + b"1" * 5000 + b"]}", "not JSON"),
        (b"", "not JSON"),
        (b'{"session_hash": "\\ud83d"}', "session name"),
        (b'{"session_hash": 5}', "session name"),
        (b'{"data": [{"path": "http://127.0.0.1:9/", "meta": {"_type": "gradio\\u002eFileData"}}]}', "must not name a file"),
        (b'{"data": [{"path": "a", "meta": 5}]}', "must not name a file"),
    ],
)
def test_a_costly_or_harmful_body_is_refused_before_it_is_read(body: bytes, words: str):
    begun = time.perf_counter()
    with pytest.raises(Refused, match=words) as refused:
        check_json(body)
    assert refused.value.status == 400 and time.perf_counter() - begun < 1


def test_brackets_in_a_text_are_text():
    check_json(json.dumps({"data": ["[" * 500, '\\"' + "{" * 500, "," * 20_000], "session_hash": "a1"}).encode())


def test_junk_is_answered_in_words_and_the_next_visitor_is_served(port: int):
    """A half character as the name of a session once broke the figures of Gradio's queue, and with them every later answer."""
    call = "/gradio_api/call/generate"
    columns = ["{}"] * MAX_COLUMNS
    assert says(ask(port, "POST", "/gradio_api/queue/join", {"data": [], "fn_index": 0, "session_hash": "\ud83d"}), 400, "session name")
    assert says(ask(port, "POST", "/gradio_api/queue/join", {"data": [], "fn_index": 999, "session_hash": "a"}), 400, "could not be answered")
    assert says(ask(port, "POST", "/gradio_api/call/nothing", {"data": []}), 400, "could not be answered")
    for prompt, words in (
        ("half \ud83d", "contains half of a character"),
        ("a\0b", "contains NUL"),
        (["x"], "There is no prompt"),
        ("x" * 30_000, "30,000"),
    ):
        event = json.loads(ask(port, "POST", call, {"data": [prompt, "{}", "", *columns]})[1])["event_id"]
        status, answer = ask(port, "GET", f"{call}/{event}")
        assert status == 200 and "event: error" in answer and words in answer


def asked(guarding: Guard, headers: dict[bytes, bytes], receive=None, client: str = "9.9.9.9") -> list[int]:
    """Statuses of the answers to one request, given to the guard itself."""
    statuses = []

    async def one() -> None:
        async def send(message):
            statuses.append(message.get("status"))

        scope = {"type": "http", "method": "POST", "path": "/gradio_api/queue/join", "client": (client, 5)}
        await guarding({**scope, "headers": [(b"host", b"localhost"), *headers.items()]}, receive, send)

    asyncio.run(one())
    return [status for status in statuses if status]


async def ok(scope, receive, send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(guard, "MAX_WAIT", 0.05)

    async def never():
        await asyncio.sleep(60)

    assert asked(Guard(ok, Hosts()), {b"content-length": b"5"}, never) == [408]


def test_an_address_is_answered_so_often_and_others_are_not_held_up(monkeypatch):
    monkeypatch.setattr("pages.crowd.EACH_ADDRESS", "3/hour")
    guarding = Guard(ok, Hosts(), Settings(public=True))
    assert [asked(guarding, {}) for _ in range(4)] == [[200]] * 3 + [[429]]
    assert asked(guarding, {}, client="9.9.9.8") == [200] == asked(guarding, {}, client="127.0.0.1")
    assert asked(guarding, {b"x-forwarded-for": b"1.1.1.1"}) == [429], "what the visitor writes makes nobody else of him"
    behind = Guard(ok, Hosts(proxied=True), Settings(public=True))
    assert [asked(behind, {b"x-forwarded-for": b"%d.1.1.1, 9.9.9.9" % number}, client="10.0.0.1") for number in range(1, 5)] == [[200]] * 3 + [[429]]
    assert [asked(Guard(ok, Hosts()), {}) for _ in range(5)] == [[200]] * 5, "a laptop counts nobody"


def test_an_address_keeps_so_many_requests_open(monkeypatch):
    monkeypatch.setattr("pages.crowd.OPEN", 2)
    statuses = []

    async def slow(scope, receive, send) -> None:
        await asyncio.sleep(0.05)
        await ok(scope, receive, send)

    async def several() -> None:
        guarding = Guard(slow, Hosts(), Settings(public=True))

        async def one() -> None:
            async def send(message):
                statuses.extend(filter(None, [message.get("status")]))

            scope = {
                "type": "http",
                "method": "GET",
                "path": "/gradio_api/queue/data",
                "client": ("9.9.9.9", 5),
                "headers": [(b"host", b"localhost")],
            }
            await guarding(scope, None, send)

        await asyncio.gather(*(one() for _ in range(3)))
        await one()

    asyncio.run(several())
    assert sorted(statuses) == [200, 200, 200, 429]


# ---- files ------------------------------------------------------------------------------------------------------------------


def upload(port: int, data: bytes, headers: dict[str, str] | None = None) -> tuple[int, str]:
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.jsonl"\r\n\r\n' + data + b"\r\n--x--\r\n"
    return ask(port, "POST", "/gradio_api/upload", body, FORM | (headers or {}))


def test_an_upload_is_one_file(port: int):
    two = b"".join(b'--x\r\nContent-Disposition: form-data; name="files"; filename="%d"\r\n\r\na\r\n' % number for number in range(2)) + b"--x--\r\n"
    field = b'--x\r\nContent-Disposition: form-data; name="files"\r\n\r\n' + b"[" * 3_000_000 + b"\r\n--x--\r\n"
    for body in (two, field):
        assert says(ask(port, "POST", "/gradio_api/upload", body, FORM), 400, "one file")
    assert says(ask(port, "POST", "/gradio_api/upload", b"{}", JSON), 400, "one file")


def test_uploads_have_a_quota(port: int, folder, monkeypatch):
    status, places = upload(port, b"one row")
    (place,) = json.loads(places)
    assert status == 200 and Path(place).read_bytes() == b"one row" and Path(place).is_relative_to(folder)
    assert folder.stat().st_mode & 0o077 == 0  # of this user alone
    monkeypatch.setattr(guard, "MAX_UPLOAD", 50)
    assert says(upload(port, b"x" * 20_000), 413, "too large")
    assert says(upload(port, b"", {"Transfer-Encoding": "chunked"}), 400, "state its size")
    monkeypatch.setattr(temporary, "MAX_BYTES", 100)
    assert says(upload(port, b"x" * 60), 413, "no room")
    monkeypatch.setattr(temporary, "MAX_FILES", 0)
    assert says(upload(port, b""), 413, "no room")
    Path(place).unlink()


def test_no_route_takes_files_where_no_page_does():
    answers = []

    async def refuse() -> None:
        async def send(message):
            answers.append(message.get("status"))

        scope = {"type": "http", "method": "POST", "path": "/gradio_api/upload", "headers": [(b"host", b"localhost")]}
        await Guard(None, Hosts(), Settings(public=True))(scope, None, send)  # type: ignore[arg-type]

    asyncio.run(refuse())
    assert answers[0] == 403


def test_what_an_app_that_was_killed_left_behind_goes_at_the_next_start(port: int, folder):
    assert until(lambda: not (folder / "left behind").exists())


def test_a_download_goes_once_it_was_fetched(port: int, folder):
    file = temporary.download_folder() / "preference.jsonl"
    file.write_text("{}\n")
    kept = folder / "some-upload" / "a.jsonl"
    kept.parent.mkdir()
    kept.write_text("a")
    assert ask(port, "HEAD", f"/gradio_api/file={file}")[0] == 200 and file.is_file()
    assert ask(port, "GET", f"/gradio_api/file={file}", headers={"Range": "bytes=0-1"})[0] == 206 and file.is_file()
    assert ask(port, "GET", f"/gradio_api/file={file}") == (200, "{}\n")
    assert until(lambda: not file.parent.exists())
    assert ask(port, "GET", f"/gradio_api/file={kept}")[0] == 200 and kept.is_file()
