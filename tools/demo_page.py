"""The demo's page, served and driven: ``python tools/demo_page.py times`` or ``pictures`` (after `make demo-env`).

``times`` measures what a reader waits for, into results/demo.json; ``pictures`` takes the book's pictures of the page.
"""

import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from execute import ROOT, BuildError
from install import DEMO
from readme import FIGURES, chromium

from rrec_lib.core.hardware import choose_dtype
from rrec_lib.core.results import provenance, write_json

RREC = ROOT / DEMO[0] / "bin" / "rrec"
RESULT = ROOT / "results" / "demo.json"
STARTS, USERS = 3, 8
# Milliseconds from the click to the first word, and to the list.
WAIT = """async () => {
    const words = document.querySelector("#words textarea"), shelf = document.querySelector("#shelf");
    const frame = () => new Promise(requestAnimationFrame), start = performance.now();
    document.querySelector("#write").click();
    while (shelf.querySelector(".rr-card")) await frame();
    let first = 0;
    while (!shelf.querySelector(".rr-card")) {
        if (!first && words.value) first = performance.now() - start;
        await frame();
    }
    return [first, performance.now() - start]; }"""


@contextmanager
def served(*options: str, patience: float = 180) -> Iterator[tuple[str, float]]:
    """Run ``rrec demo`` in its environment; its address, and the seconds until it was ready.

    Raises:
        BuildError: if it doesn't start.
    """
    if not RREC.exists():
        raise BuildError(f"the demo has no environment in {DEMO[0]}: run `make demo-env`")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = time.monotonic()
    command = [str(RREC), "demo", "--port", str(port), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1) as process:
        try:
            said = []
            for line in process.stdout or ():
                said.append(line)
                if line.startswith("ready after") or time.monotonic() - start > patience:
                    break
            if not said or not said[-1].startswith("ready after"):
                raise BuildError(f"the demo did not start: {''.join(said[-5:])}")
            yield f"http://127.0.0.1:{port}/", time.monotonic() - start
        finally:
            process.send_signal(signal.SIGINT)


@contextmanager
def opened(address: str, **options: Any) -> Iterator[Any]:
    """The page in headless Chromium, with a history in it."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise BuildError("there is no Playwright here: run this with .venv/bin/python, after `make env`") from None
    executable = chromium()
    if executable is None:
        raise BuildError("there is no Chromium: install your system's chromium package, or name one in RREC_CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        view = browser.new_page(**{"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce", **options})
        view.goto(address)
        view.locator("#history .rr-chosen li").first.wait_for()
        yield view
        browser.close()


def times() -> dict[str, Any]:
    """Seconds to a ready page, to the first word of a reasoning, and from there to the list."""
    ready, first, after = [], [], []
    for _ in range(STARTS):
        with served() as (address, seconds):
            ready.append(seconds)
    with served() as (address, _), opened(address) as view:
        for _ in range(USERS + 1):
            word, whole = view.evaluate(WAIT)
            first.append(word / 1000)
            after.append((whole - word) / 1000)
            before = view.locator("#history .rr-chosen").inner_text()
            view.locator("#draw").click()
            view.wait_for_function(
                "text => document.querySelector('#history .rr-chosen').innerText !== text", arg=before
            )
    return {
        "ready": spread(ready),
        "first word": spread(first[1:]),  # the first user warms up
        "list after it": spread(after[1:]),
        "starts": STARTS,
        "users": USERS,
        "arithmetic": str(choose_dtype()).removeprefix("torch."),
        "processor": processor(),
        "cores": os.cpu_count(),
    }


def spread(values: list[float]) -> dict[str, float]:
    """Median, smallest and largest, in seconds."""
    return {"median": round(statistics.median(values), 2), "min": round(min(values), 2), "max": round(max(values), 2)}


def processor() -> str:
    """The processor's kind, as Linux names it; empty elsewhere."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def pictures() -> None:
    """The page after it has written and compared, in both themes."""
    with served() as (address, _):
        for theme in ("light", "dark"):
            with opened(address, viewport={"width": 1180, "height": 760}, color_scheme=theme) as view:
                view.evaluate(WAIT)
                view.evaluate("() => document.activeElement.blur()")
                view.screenshot(path=str(ROOT / FIGURES / f"demo-{theme}.png"))


def main() -> None:
    try:
        if sys.argv[1:] == ["times"]:
            write_json(RESULT, {"name": "demo", "profile": "cpu", **provenance(0), "figures": times()})
            print(RESULT.read_text(encoding="utf-8"))
        elif sys.argv[1:] == ["pictures"]:
            pictures()
        else:
            sys.exit("error: say times or pictures")
    except BuildError as problem:
        sys.exit(f"error: {problem}")


if __name__ == "__main__":
    main()
