"""Downloads from a local server that breaks off, stalls, truncates, redirects, changes its file and lies."""

import hashlib
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from rrec_lib.data import download as module
from rrec_lib.data.download import CHUNK, DownloadError, download

BODY = random.Random(0).randbytes(300_000)
OTHER = random.Random(1).randbytes(300_000)  # as long, so that a length check alone does not tell the two apart


@dataclass(frozen=True)
class Turn:
    """How the server answers one request; the default is: as it should."""

    status: int = 0  # an error or a redirect
    headers: dict[str, str] = field(default_factory=dict)  # added, or in place of others
    stop: int | None = None  # bytes of the body after which it ends
    how: str = "close"  # or "reset", "stall"
    length: str = "right"  # or "none", "chunked", "short" (as long as what is sent)
    ranges: bool = True  # heeds Range
    if_range: bool = True  # heeds If-Range
    body: bytes | None = None  # from here on, with its own ETag


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.turns = BODY, list[Turn]()
        self.validators = ("ETag", "Last-Modified")
        self.requests: list[dict[str, str]] = []
        self.sent = 0  # bytes of bodies
        self.release = threading.Event()  # ends the stalls

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/file.csv.gz"

    @property
    def ranges(self) -> list[str | None]:
        return [request.get("range") for request in self.requests]

    def handle_error(self, request, client_address) -> None:  # a client that went away
        pass


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else every answer on a kept connection waits 40 ms
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        server = self.server
        turn = server.turns.pop(0) if server.turns else Turn()
        wanted = {name.lower(): value for name, value in self.headers.items()}
        server.requests.append({"path": self.path, **wanted})
        server.body = turn.body or server.body
        etag = f'"{hashlib.md5(server.body).hexdigest()}"'
        headers = {"ETag": etag, "Last-Modified": formatdate(len(server.body) + server.body[0], usegmt=True)}
        headers = {name: headers[name] for name in server.validators}
        status, start = turn.status or 200, 0
        fresh = wanted.get("if-range") in (None, *headers.values()) or not turn.if_range
        if status == 200 and turn.ranges and fresh and "range" in wanted:
            start = int(wanted["range"].removeprefix("bytes=").removesuffix("-"))
            status = 206 if start < len(server.body) else 416
            headers["Content-Range"] = f"bytes {start}-{len(server.body) - 1}/{len(server.body)}"
        body = server.body[start:] if status in (200, 206) else b"an error page"
        part = body[: turn.stop]
        length = {"right": len(body), "short": len(part)}.get(turn.length)
        headers |= {} if length is None else {"Content-Length": str(length)}
        headers |= {"Transfer-Encoding": "chunked"} if turn.length == "chunked" else {}
        self.send_response(status)
        for name, value in (headers | turn.headers).items():
            self.send_header(name, value)
        self.end_headers()
        server.sent += len(part)  # before the client can have them: a test may look at once
        if turn.length == "chunked":
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part) if part else b"")
            self.wfile.write(b"0\r\n\r\n" if turn.stop is None else b"")
        else:
            self.wfile.write(part)
        self.wfile.flush()
        if turn.how == "stall":
            server.release.wait(20)
        if turn.how == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = turn.stop is not None or turn.length == "none"


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("RREC_PROGRESS", "off")
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.release.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def get(server, tmp_path):
    """``download`` that does not wait but notes how long it would, and sees that nothing half-written is in place."""
    target = tmp_path / "raw" / "file.csv.gz"

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        assert not target.exists()

    def fetch(**options) -> bytes:
        path = download(**{"url": server.url, "timeout": 5, **options}, path=target, sleep=sleep)
        assert path == target
        assert os.listdir(target.parent) == [target.name], "nothing else is left"
        return path.read_bytes()

    get: Any = fetch
    waits: list[float] = []
    get.waits, get.target, get.part = waits, target, target.with_name("file.csv.gz.part")
    return get


def test_a_file_arrives_whole_in_one_request(server, get):
    assert get() == BODY
    assert server.ranges == [None]
    assert get.waits == []
    assert get() == BODY
    assert server.ranges == [None], "what is there is not asked for again"


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_break_is_resumed_where_it_happened(server, get, how):
    server.turns = [Turn(stop=2 * CHUNK, how=how), Turn(stop=CHUNK + 7, how=how)]
    assert get() == BODY
    assert (len(server.requests), server.ranges[0]) == (3, None)
    if how == "close":  # a reset may also lose what was on its way
        assert server.ranges == [None, f"bytes={2 * CHUNK}-", f"bytes={3 * CHUNK}-"]
        assert server.sent == len(BODY) + 7


def test_a_stall_ends_after_the_timeout_and_is_resumed(server, get):
    server.turns = [Turn(stop=3 * CHUNK, how="stall")]
    start = time.monotonic()
    assert get(timeout=0.2) == BODY
    assert time.monotonic() - start < 2
    assert server.ranges == [None, f"bytes={3 * CHUNK}-"]


def test_a_server_that_never_answers(server, get):
    server.turns = [Turn(stop=0, how="stall")] * 2
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1:\d+ sent nothing for 0\.1 s"):
        get(timeout=0.1, retries=1)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and says nothing
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(DownloadError, match=r"sent nothing for 0\.1 s"):
            get(url=url, timeout=0.1, retries=0)


@pytest.mark.parametrize("length", ["right", "chunked"])
def test_a_truncated_answer_is_never_taken_for_the_file(server, get, length):
    server.turns = [Turn(stop=70_000, length=length)] * 3
    assert get() == BODY
    assert [value is not None for value in server.ranges] == [False, True, True, True]


def test_without_any_size_nothing_is_trusted(server, get):
    server.turns = [Turn(stop=100_000, length="none")]
    assert len(requests.get(server.url, timeout=5).content) == 100_000, "a plain request takes it for the whole"
    server.turns = [Turn(length="none")]
    with pytest.raises(DownloadError, match="gives no size"):
        get()


def test_an_empty_file(server, get):
    server.turns = [Turn(stop=0, length="short")]
    assert get() == b""


def test_redirects_are_followed_and_resumed(server, get):
    away = Turn(status=302, headers={"Location": "/elsewhere"})
    server.turns = [away, Turn(stop=CHUNK), away]
    assert get() == BODY
    assert [request["path"] for request in server.requests] == ["/file.csv.gz", "/elsewhere"] * 2
    assert server.ranges == [None, None, *[f"bytes={CHUNK}-"] * 2]


def test_redirects_in_a_circle_fail_at_once(server, get):
    server.turns = [Turn(status=302, headers={"Location": "/file.csv.gz"})] * 100
    with pytest.raises(DownloadError, match="redirects"):
        get()
    assert get.waits == []


@pytest.mark.parametrize("status", [500, 502, 503, 429, 408])
def test_a_busy_server_is_asked_again(server, get, status):
    server.turns = [Turn(status=status), Turn(stop=CHUNK), Turn(status=status)]
    assert get() == BODY
    assert len(get.waits) == 3
    assert server.ranges[-1] == f"bytes={CHUNK}-", "the error page does not touch what came before"


def test_waits_grow_with_jitter_up_to_a_minute(server, get):
    server.turns = [Turn(status=500)] * 10
    with pytest.raises(DownloadError, match="answered 500"):
        get(retries=9)
    bounds = [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert len(server.requests) == 10
    assert all(bound / 2 <= wait <= bound for wait, bound in zip(get.waits, bounds, strict=True))
    assert len(set(get.waits)) == 9


def test_retries_leave_the_global_random_numbers_alone(server, get):
    random.seed(3)
    expected = random.random()
    random.seed(3)
    server.turns = [Turn(status=500)]
    get()
    assert random.random() == expected


def test_retry_after_is_honoured(server, get):
    date, past = (formatdate(moment, usegmt=True) for moment in (time.time() + 100, 0))
    server.turns = [Turn(status=429, headers={"Retry-After": value}) for value in ("17", date, "soon", "-5", past)]
    assert get() == BODY
    assert get.waits[0] == 17
    assert 90 < get.waits[1] <= 100
    assert all(wait <= 16 for wait in get.waits[2:]), "what makes no sense counts as none, and a date that has passed"


def test_a_server_that_asks_for_an_hour_is_an_error(server, get):
    server.turns = [Turn(status=503, headers={"Retry-After": "3600"})]
    with pytest.raises(DownloadError, match=r"answered 503 .*asks to wait 3600 s"):
        get()
    assert get.waits == []


@pytest.mark.parametrize("status", [401, 403, 404, 410, 416, 204])
def test_a_refusal_fails_at_once(server, get, status):
    server.turns = [Turn(status=status)]
    with pytest.raises(
        DownloadError, match=f"answered {status} .*; check the address, or download file.csv.gz yourself"
    ):
        get()
    assert (len(server.requests), get.waits) == (1, [])
    assert not list(get.target.parent.iterdir())


def test_a_server_that_ignores_ranges_starts_over(server, get):
    server.turns = [Turn(stop=2 * CHUNK), Turn(ranges=False)]
    assert get() == BODY
    assert server.ranges == [None, f"bytes={2 * CHUNK}-"]
    assert server.sent == len(BODY) + 2 * CHUNK


def test_a_server_that_ignores_ranges_and_always_breaks_is_given_up(server, get):
    server.turns = [Turn(stop=2 * CHUNK, ranges=False)] * 50
    with pytest.raises(DownloadError, match="broke off after 32768"):
        get(retries=3)
    assert len(server.requests) == 4, "bytes that had come before are no progress"


def test_breaks_that_bring_something_new_are_not_counted_together(server, get):
    server.turns = [Turn(stop=CHUNK)] * 18
    assert get(retries=1) == BODY
    assert len(server.requests) == 19
    get.target.unlink()
    server.turns = [Turn(stop=CHUNK)]
    with pytest.raises(DownloadError, match="broke off"):
        get(retries=0)


@pytest.mark.parametrize("validators", [("ETag", "Last-Modified"), ("ETag",), ("Last-Modified",)])
@pytest.mark.parametrize("if_range", [True, False])
def test_a_file_that_changes_between_attempts_is_not_spliced(server, get, validators, if_range):
    server.validators = validators
    server.turns = [Turn(stop=2 * CHUNK), Turn(body=OTHER, if_range=if_range)]
    assert get() == OTHER
    assert server.ranges[:2] == [None, f"bytes={2 * CHUNK}-"], "it did try to resume"
    assert len(server.requests) == (2 if if_range else 3)


def test_a_new_file_is_resumed_as_the_new_file(server, get):
    server.turns = [Turn(stop=2 * CHUNK), Turn(stop=3 * CHUNK, body=OTHER)]
    assert get() == OTHER
    assert server.ranges == [None, f"bytes={2 * CHUNK}-", f"bytes={3 * CHUNK}-"]
    assert server.sent == 2 * CHUNK + len(OTHER)


def test_a_resumed_answer_that_does_not_repeat_the_size(server, get):
    unsaid = {"Content-Range": f"bytes {2 * CHUNK}-299999/*"}
    server.turns = [Turn(stop=2 * CHUNK), Turn(stop=CHUNK, length="none", headers=unsaid)]
    assert get() == BODY
    assert server.ranges[2] == f"bytes={3 * CHUNK}-"


def test_a_resumed_answer_longer_than_it_says_starts_over(server, get):
    said = {"ETag": f'"{hashlib.md5(BODY).hexdigest()}"', "Content-Range": f"bytes {2 * CHUNK}-299999/300000"}
    server.turns = [Turn(stop=2 * CHUNK), Turn(length="chunked", headers=said, body=BODY + b"x", if_range=False)]
    assert get() == BODY + b"x"
    assert server.ranges == [None, f"bytes={2 * CHUNK}-", None]


def test_the_size_of_a_part_that_is_gone_is_forgotten(server, get):
    server.turns = [Turn(stop=2 * CHUNK)]
    with pytest.raises(DownloadError):
        get(retries=0)
    get.part.unlink()
    server.turns = [Turn(body=OTHER[:CHUNK], length="chunked")]
    assert get() == OTHER[:CHUNK]
    assert len(server.requests) == 2


def test_a_change_of_length_alone_is_seen(server, get):
    same = {"ETag": '"always the same"'}
    server.turns = [Turn(stop=2 * CHUNK, headers=same), Turn(body=OTHER[:-9], headers=same), Turn(headers=same)]
    assert get() == OTHER[:-9]


def test_the_splice_tests_can_fail(server, get):
    """Without a word from the server that its file has changed, the two are spliced."""
    same = {"ETag": '"always the same"', "Last-Modified": formatdate(0)}
    server.turns = [Turn(stop=2 * CHUNK, headers=same), Turn(body=OTHER, if_range=False, headers=same)]
    assert get() == BODY[: 2 * CHUNK] + OTHER[2 * CHUNK :]


@pytest.mark.parametrize("validators", [(), ("ETag",)])
def test_without_a_strong_validator_it_starts_over(server, get, validators):
    server.validators = validators
    weak = {"ETag": 'W/"1"'} if validators else {}
    server.turns = [Turn(stop=2 * CHUNK, headers=weak), Turn(body=OTHER, headers=weak)]
    assert get() == OTHER
    assert server.ranges == [None, None]


@pytest.mark.parametrize(
    "value", ["bytes 0-299999/300000", "bytes 0-299999/*", "bytes 7-299999/300000", "bytes */300000", "nonsense", ""]
)
def test_a_range_that_was_not_asked_for_is_not_taken(server, get, value):
    server.turns = [Turn(stop=CHUNK), Turn(headers={"Content-Range": value})]
    assert get() == BODY
    assert server.ranges == [None, f"bytes={CHUNK}-", None]
    get.target.unlink()
    get.part.write_bytes(OTHER[:1000])
    server.turns = [Turn(status=206, headers={"Content-Range": value})]
    assert get() == BODY


def test_a_file_that_shrank_is_fetched_anew(server, get):
    server.turns = [Turn(stop=2 * CHUNK), Turn(body=OTHER[:CHUNK], if_range=False)]  # the second answer is 416
    assert get() == OTHER[:CHUNK]
    assert server.ranges == [None, f"bytes={2 * CHUNK}-", None]


def test_a_packed_file_stays_packed(server, get):
    import gzip

    packed = gzip.compress(b"user,item\n" * 1000)
    server.body = packed
    server.turns = [Turn(headers={"Content-Encoding": "gzip"})] * 3
    assert requests.get(server.url, timeout=5).content != packed, "a plain request would unpack it"
    assert get() == packed
    assert len(server.requests) == 2
    assert server.requests[-1]["accept-encoding"] == "identity"


def test_a_run_that_failed_is_resumed_by_the_next(server, get):
    server.turns = [Turn(stop=2 * CHUNK), *[Turn(stop=0)] * 2]
    with pytest.raises(DownloadError, match=r"broke off after 32768 .*; run this again later"):
        get(retries=2)
    assert get.part.read_bytes() == BODY[: 2 * CHUNK]
    assert not get.target.exists()
    assert get() == BODY
    assert server.ranges[-1] == f"bytes={2 * CHUNK}-"
    assert server.sent == len(BODY)


def test_a_part_of_another_address_or_of_nothing_known_is_not_resumed(server, get):
    for notes in ('{"url": "http://127.0.0.1/other", "validator": "x", "total": 300000}', '{"url": "htt', "[]", None):
        get.target.unlink(missing_ok=True)
        get.part.parent.mkdir(exist_ok=True)
        get.part.write_bytes(OTHER[:1000])
        if notes:
            get.part.with_name("file.csv.gz.part.json").write_text(notes)
        assert get() == BODY
        assert server.ranges[-1] is None


def test_a_run_killed_before_the_renaming_needs_no_bytes(server, get, monkeypatch):
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module.os, "replace", fail)
        with pytest.raises(KeyboardInterrupt):
            get()
    assert not get.target.exists()
    assert get() == BODY
    assert server.sent == len(BODY)


def test_a_killed_process_is_resumed(server, get):
    server.turns = [Turn(stop=3 * CHUNK + 5, how="stall")]
    code = "import sys; from rrec_lib.data.download import download; download(*sys.argv[1:])"
    environment = {**os.environ, "PYTHONPATH": str(Path(module.__file__).parents[2])}
    process = subprocess.Popen([sys.executable, "-c", code, server.url, str(get.target)], env=environment)
    try:
        end = time.monotonic() + 20
        while not (get.part.exists() and get.part.stat().st_size >= 3 * CHUNK) and time.monotonic() < end:
            time.sleep(0.01)
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not get.target.exists()
    assert get() == BODY
    assert server.ranges == [None, f"bytes={3 * CHUNK}-"]
    assert server.sent == len(BODY) + 5, "only what was on its way comes twice"


def test_who_comes_second_waits_and_finds_the_file(server, get):
    server.turns = [Turn(stop=9 * CHUNK, how="stall")]
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(download, server.url, get.target, timeout=60) for _ in range(2)]
        while not (get.part.exists() and get.part.stat().st_size):
            time.sleep(0.01)
        assert len(server.requests) == 1
        server.release.set()  # the first breaks off, and goes on after a wait
        assert [one.result() for one in both] == [get.target] * 2
    assert get.target.read_bytes() == BODY
    assert server.ranges == [None, f"bytes={9 * CHUNK}-"]


@pytest.mark.parametrize("seed", range(40))
def test_whatever_breaks_where_the_file_is_identical(server, get, seed):
    """Any sequence of break points, ways to break, errors and lost runs; the file may change on the way."""
    draw = random.Random(seed)
    server.body = draw.randbytes(draw.randint(1, 400_000))
    for _ in range(draw.randint(0, 8)):
        turn = Turn(
            status=draw.choice([0, 0, 0, 0, 503]),
            stop=draw.choice([0, 1, CHUNK - 1, CHUNK, CHUNK + 1, draw.randrange(400_000)]),
            how=draw.choice(["close", "reset"]),
            length=draw.choice(["right", "right", "chunked"]),
            ranges=draw.random() < 0.8,
            if_range=draw.random() < 0.8,
            body=draw.randbytes(draw.randint(1, 400_000)) if draw.random() < 0.2 else None,
        )
        server.turns.append(turn)
    retries = draw.choice([0, 2, 8])
    for _ in range(10):
        try:
            found = get(retries=retries)
            break
        except DownloadError:
            assert not get.target.exists()
    assert found == server.body


def test_offline_says_what_to_do(get):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/file.csv.gz"
    with pytest.raises(DownloadError) as caught:
        get(url=url, retries=1)
    host = url.split("/")[2]
    assert str(caught.value) == (
        f"file.csv.gz was not downloaded: there is no connection to {host}; run this again later (it goes on where it "
        f"can), or download file.csv.gz yourself from {url} and pass its folder with --raw-dir"
    )
    assert isinstance(caught.value, OSError), "the command line prints it as one sentence"
    assert len(get.waits) == 1


@pytest.mark.parametrize("url", ["file.csv.gz", "ftp://127.0.0.1/file.csv.gz", "http://"])
def test_an_address_that_can_not_be_fails_at_once(get, url):
    with pytest.raises(DownloadError, match="check the address"):
        get(url=url)
    assert get.waits == []


def test_a_disk_that_can_not_be_written_is_named(server, get):
    get.part.mkdir(parents=True)
    with pytest.raises(DownloadError, match=r"file\.csv\.gz\.part could not be written \(.*Is a directory"):
        get()
    assert get.waits == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_no_break_of_the_connection(server, get):
    get.part.parent.mkdir()
    get.part.symlink_to("/dev/full")
    with pytest.raises(DownloadError, match=r"No space left on device.*; make room"):
        get()
    assert len(server.requests) == 1


def test_each_retry_is_said(server, get, monkeypatch, capsys):
    monkeypatch.delenv("RREC_PROGRESS")
    server.turns = [Turn(status=503)]
    get()
    assert "file.csv.gz: the server answered 503 Service Unavailable; trying again in" in capsys.readouterr().err


def test_a_socks_proxy_without_its_package_gets_a_sentence(tmp_path, monkeypatch):
    def get(*args, **kwargs):
        raise requests.exceptions.InvalidSchema("Missing dependencies for SOCKS support.")

    monkeypatch.setattr(module.requests, "get", get)
    with pytest.raises(DownloadError, match=r"names a SOCKS proxy.*not installed; `pip install pysocks`, or unset"):
        download("https://example.org/file.csv.gz", tmp_path / "file.csv.gz")
