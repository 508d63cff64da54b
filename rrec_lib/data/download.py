"""Download of a published file: resumed after a break, checked, and put in its place only when whole."""

import hashlib
import json
import os
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from rrec_lib.core.console import byte_progress, say

CHUNK = 1 << 14  # bytes read at a time; a break loses fewer than these of what had come
LONGEST_WAIT = 300.0  # seconds; a server that asks for more is an error, not a silent hour
_BREAKS = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
_jitter = random.Random()  # not the global one: a retry must not shift a seeded run


class DownloadError(OSError):
    """A file that could not be downloaded: the message says why and what to do."""


class _AgainError(Exception):
    """An attempt failed and the next may not; args: the reason, and the seconds that the server asks to wait."""


class _WrongBytesError(Exception):
    """What the server has is not the recorded file."""


@dataclass(frozen=True)
class _Job:
    url: str
    path: Path
    sha256: str | None
    size: int | None
    timeout: float
    description: str
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
    url: str,
    path: Path | str,
    *,
    sha256: str | None = None,
    size: int | None = None,
    retries: int = 5,
    timeout: float = 30.0,
    description: str | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Path:
    """Download a file unless it is there; what a broken run brought stays in ``path`` + ``.part`` and is resumed.

    Args:
        url: http or https address; redirects are followed. The file is stored as published, a ``.gz`` still packed.
        path: where to, for one process at a time. A file there is kept if it has the ``size`` and ``sha256`` given.
        sha256: checksum of the file, 64 hex digits, if recorded.
        size: bytes of the file, if recorded; a new file is checked against what the server says in any case.
        retries: how many failures in a row that bring nothing new are tried again, each after a longer wait.
        timeout: seconds without an answer or without data after which the connection counts as broken.
        description: name beside the progress bar; the file's name if not given.
        sleep: waits that many seconds.

    Returns:
        The path.

    Raises:
        DownloadError: (an ``OSError``) if the server refuses, stays away, or has another file than the recorded one,
            or if the disk can't be written.
        ValueError: if ``sha256`` is no checksum.
    """
    if sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise ValueError(f"sha256 must be 64 hex digits, got {sha256!r}")
    path = Path(path)
    part, notes = (path.with_name(path.name + ending) for ending in (".part", ".part.json"))
    job = _Job(url, path, sha256 and sha256.lower(), size, timeout, description or path.name, part, notes)
    if path.is_file() and _fault(job, path) is None:
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _persist(job, retries, sleep)
        os.replace(part, path)
        notes.unlink(missing_ok=True)
    except DownloadError:
        raise
    except OSError as error:
        raise job.error(f"{part} could not be written ({error})", "make room or way for it") from error
    return path


def _fault(job: _Job, path: Path) -> str | None:
    """What is wrong with a whole file, if anything."""
    found = path.stat().st_size
    if job.size not in (None, found):
        return f"it has {found} bytes instead of {job.size}"
    if job.sha256 is not None:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != job.sha256:
            return f"its sha256 is {digest} instead of {job.sha256}"
    return None


def _persist(job: _Job, retries: int, sleep: Callable[[float], None]) -> None:
    """Attempt after attempt, until the part is whole and right."""
    failures, was_wrong, most = 0, False, _length(job.part)
    while True:
        wait = 0.0
        try:
            _attempt(job)
            fault = _fault(job, job.part)
            if fault is None:
                return
            raise _WrongBytesError(fault)
        except _WrongBytesError as error:
            job.discard()
            reason = f"what the server has is not the recorded file ({error})"
            if was_wrong:
                raise job.error(reason, "see whether it was published anew") from error
            was_wrong = True
        except _AgainError as error:
            reason, wait = error.args
            # A large file may break off many times on a bad line: failures add up only while they get no further.
            failures = 1 if _length(job.part) > most else failures + 1
            most = max(most, _length(job.part))
            if failures > retries or wait > LONGEST_WAIT:
                raise job.error(reason) from error
        delay = max(wait, min(60.0, 2.0 ** max(0, failures - 1)) * _jitter.uniform(0.5, 1.0))
        say(f"{job.description}: {reason}; trying again in {delay:.0f} s")
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
        wait = _retry_after(headers.get("Retry-After"))
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
    total = next((size for size in (total, known[0] if offset else None, job.size) if size is not None), None)
    if job.size not in (None, total):
        raise _WrongBytesError(f"it has {total} bytes instead of {job.size}")
    if total is None and job.sha256 is None and headers.get("Transfer-Encoding", "").lower() != "chunked":
        raise job.error("the server gives no size, so a file that broke off would pass for a whole one")
    with open(job.part, "ab" if status == 206 else "wb") as file:
        if status == 200:  # only now that the old bytes are gone: new notes must not vouch for them
            job.notes.write_text(json.dumps({"url": job.url, "validator": validator, "total": total}), encoding="utf-8")
        response.raw.headers.discard("Content-Encoding")  # some servers put it on a .gz, and requests would unpack it
        for chunk in byte_progress(response.iter_content(CHUNK), job.description, start or 0, total):
            file.write(chunk)
            file.flush()  # what came stays, should the process be killed
            if total is not None and file.tell() > total:
                raise _WrongBytesError(f"it has more than {total} bytes")
    if total is not None and _length(job.part) < total:
        raise _AgainError(f"the server broke off after {_length(job.part)} of {total} bytes", 0.0)


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


def _retry_after(value: str | None) -> float:
    """Seconds from now, of a header that holds seconds or a date; 0 where it makes no sense."""
    try:
        if value is None or value.strip().isdecimal():
            return float(value or 0)
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
