"""Download of a published file: in, its address; out, the whole file under its name, resumed after any break.

Amazon Reviews 2023 is published as gzipped files on its authors' site. The copy on the Hugging Face hub holds the same
records unpacked (``.csv``, ``.jsonl``): other bytes, under other names. So ``huggingface_hub`` can't fetch or check the
files that this project reads and whose sha256 its manifests record, and neither ``requests`` nor ``urllib3`` goes on
with a body that broke off.
"""

import json
import os
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from rrec_lib.core.console import byte_progress, say
from rrec_lib.core.paths import one_at_a_time

CHUNK = 1 << 14  # bytes read at a time; a break loses fewer than these of what had come
LONGEST_WAIT = 300.0  # seconds; a server that asks for more is an error, not a silent hour
_BREAKS = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
_jitter = random.Random()  # not the global one: a retry must not shift a seeded run


class DownloadError(OSError):
    """A file that could not be downloaded: the message says why and what to do."""


class _AgainError(Exception):
    """An attempt failed and the next may not; args: the reason, and the seconds that the server asks to wait."""


@dataclass(frozen=True)
class _Job:
    url: str
    path: Path
    timeout: float
    part: Path
    notes: Path  # which version of which file the part is of, so that a later run can tell whether it may go on

    def discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self.notes.unlink(missing_ok=True)

    def error(self, reason: str, remedy: str = "run this again later (it goes on where it can)") -> DownloadError:
        name = self.path.name
        by_hand = f"or download {name} yourself from {self.url} and pass its folder with --raw-dir"
        return DownloadError(f"{name} was not downloaded: {reason}; {remedy}, {by_hand}")


def download(
    url: str, path: Path | str, *, retries: int = 5, timeout: float = 30.0, sleep: Callable[[float], None] = time.sleep
) -> Path:
    """Download a file unless it is there; what a broken run brought stays in ``path`` + ``.part`` and is resumed.

    Args:
        url: http or https address; redirects are followed. The file is stored as published, a ``.gz`` still packed.
        path: where to. The file gets this name only when its size is what the server said; of several processes that
            download into a folder, one does at a time, and a file that another has brought is there.
        retries: how many failures in a row that bring nothing new are tried again, each after a longer wait.
        timeout: seconds without an answer or without data after which the connection counts as broken.
        sleep: waits that many seconds.

    Returns:
        The path.

    Raises:
        DownloadError: (an ``OSError``) if the server refuses or stays away, or if the disk can't be written.
    """
    path = Path(path)
    if path.is_file():
        return path
    job = _Job(url, path, timeout, *(path.with_name(path.name + ending) for ending in (".part", ".part.json")))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(path.parent):
            if not path.is_file():  # another process may have brought it meanwhile
                _persist(job, retries, sleep)
                os.replace(job.part, path)
                job.notes.unlink(missing_ok=True)
    except DownloadError:
        raise
    except OSError as error:
        raise job.error(f"{job.part} could not be written ({error})", "make room or way for it") from error
    return path


def _persist(job: _Job, retries: int, sleep: Callable[[float], None]) -> None:
    """Attempt after attempt, until the part is whole."""
    failures, most = 0, _length(job.part)
    while True:
        try:
            return _attempt(job)
        except _AgainError as error:
            reason, wait = error.args
            # A large file may break off many times on a bad line: failures add up only while they get no further.
            failures = 1 if _length(job.part) > most else failures + 1
            most = max(most, _length(job.part))
            if failures > retries or wait > LONGEST_WAIT:
                raise job.error(reason) from error
        delay = max(wait, min(60.0, 2.0 ** (failures - 1)) * _jitter.uniform(0.5, 1.0))
        say(f"{job.path.name}: {reason}; trying again in {delay:.0f} s")
        sleep(delay)


def _attempt(job: _Job) -> None:
    """One request: go on where the part ends, if the server still has the same file, else from the start."""
    notes = _read_notes(job)
    offset = _length(job.part) if notes.get("validator") else 0
    if offset and offset == notes.get("total"):
        return  # an earlier run ended between the last byte and the renaming
    headers = {"Accept-Encoding": "identity"}
    if offset:
        headers |= {"Range": f"bytes={offset}-", "If-Range": notes["validator"]}
    host = urlsplit(job.url).netloc
    try:
        with requests.get(job.url, headers=headers, stream=True, timeout=job.timeout) as response:
            _receive(job, response, notes, offset)
    except _BREAKS as error:
        if isinstance(error, requests.Timeout) or "timed out" in str(error):
            reason = f"{host} sent nothing for {job.timeout:g} s"
        elif isinstance(error, requests.ConnectionError):
            secure = "secure " if isinstance(error, requests.exceptions.SSLError) else ""
            reason = f"there is no {secure}connection to {host}"
        else:
            reason = f"{host} broke off after {_length(job.part)} bytes"
        raise _AgainError(reason, 0.0) from error
    except requests.RequestException as error:  # an address that can't be, or redirects in a circle
        if "SOCKS" in str(error):
            what = "a proxy variable such as ALL_PROXY names a SOCKS proxy, and the package for these is not installed"
            raise job.error(what, "`pip install pysocks`, or unset the variable") from error
        raise job.error(str(error).rstrip("."), "check the address") from error


def _receive(job: _Job, response: requests.Response, notes: dict[str, Any], offset: int) -> None:
    """Check that the answer continues or restarts the part, and write it."""
    status, headers = response.status_code, response.headers
    if status in (408, 425, 429) or status >= 500:
        wait = _retry_after(response)
        asked = f" and asks to wait {wait:.0f} s" if wait else ""
        raise _AgainError(f"the server answered {status} {response.reason}{asked}", wait)
    if status not in (200, 206) and not (status == 416 and offset):
        raise job.error(f"the server answered {status} {response.reason}", "check the address")
    start, total = _extent(response)
    etag = headers.get("ETag", "")  # a weak one, W/"...", does not promise equal bytes
    validator = etag if etag.startswith('"') else headers.get("Last-Modified")
    # Not every server heeds If-Range, so a 206 must also show that it is of the same file.
    known = notes.get("total"), notes.get("validator")
    same = all(None in pair or pair[0] == pair[1] for pair in zip(known, (total, validator), strict=True))
    if status == 416 or (status == 206 and not (offset and start == offset and same)):
        job.discard()
        raise _AgainError(f"the server could not go on from byte {offset}", 0.0)
    total = known[0] if total is None and status == 206 else total
    if total is None and headers.get("Transfer-Encoding", "").lower() != "chunked":
        raise job.error("the server gives no size, so a file that broke off would pass for a whole one")
    with open(job.part, "ab" if status == 206 else "wb") as file:
        if status == 200:  # only now that the old bytes are gone: new notes must not vouch for them
            job.notes.write_text(json.dumps({"url": job.url, "validator": validator, "total": total}), encoding="utf-8")
        response.raw.headers.discard("Content-Encoding")  # some servers put it on a .gz, and requests would unpack it
        for chunk in byte_progress(response.iter_content(CHUNK), job.path.name, start or 0, total):
            file.write(chunk)
            file.flush()  # what came stays, should the process be killed
    found = _length(job.part)
    if total is not None and found != total:
        if found > total:
            job.discard()
        raise _AgainError(f"the server broke off after {found} of {total} bytes", 0.0)


def _extent(response: requests.Response) -> tuple[int | None, int | None]:
    """First byte of the answer, and bytes of the whole file, as far as the server says."""
    if response.status_code == 200:
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if found is None:
        return None, None
    return int(found[1]), None if found[2] == "*" else int(found[2])


def _read_notes(job: _Job) -> dict[str, Any]:
    try:
        notes = json.loads(job.notes.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # ValueError: only half was written
        return {}
    return notes if isinstance(notes, dict) and notes.get("url") == job.url else {}


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _retry_after(response: requests.Response) -> float:
    """Seconds that the server asks to wait; 0 where it asks for none, or what it says makes no sense."""
    try:
        return Retry().get_retry_after(response.raw) or 0.0
    except InvalidHeader:
        return 0.0
