"""Loads models from a small hub of its own, as a process that starts with none of the libraries imported.

``python hub_run.py FOLDER``: the folder is empty; a JSON report is printed, by scenario: seconds, requests, and what
was loaded or said.
"""

import hashlib
import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT, OTHER = "a" * 40, "b" * 40
REFUSALS = {  # owner -> status and error code, as the hub sends them
    "gated": (401, "GatedRepo"),
    "forbidden": (403, "GatedRepo"),
    "absent": (401, "RepoNotFound"),
    "busy": (503, ""),
    "badtoken": (401, "", "Invalid credentials in Authorization header"),
}
REQUESTS: list[str] = []
FOLDER = Path(sys.argv[1])
SERVED = FOLDER / "served"


class Hub(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(True)

    def do_HEAD(self):
        self.answer(False)

    def answer(self, body):
        REQUESTS.append(f"{self.command} {self.path}")
        parts = self.path.partition("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            owner, rest = parts[2], parts[4:]
        else:
            owner, rest = parts[0], parts[2:]
        if owner in REFUSALS:
            status, code, *message = REFUSALS[owner]
            return self.send(status, b"", {"X-Error-Code": code, "X-Error-Message": "".join(map(str, message))})
        if owner == "slow":
            time.sleep(3)
        if owner == "portal":
            return self.send(200, b"<html>log in</html>", {})
        known = len(rest) < 2 or rest[1] in ("main", COMMIT)
        if not known:
            return self.missing("RevisionNotFound")
        files = sorted((SERVED / owner).glob("*"))
        if parts[0] == "api":
            listing = [
                {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": COMMIT} for file in files
            ]
            about = {"id": "/".join(parts[2:4]), "sha": COMMIT, "siblings": [{"rfilename": f.name} for f in files]}
            return self.send(200, json.dumps(listing if rest[:1] == ["tree"] else about).encode(), {})
        name = "/".join(rest[2:])
        path = SERVED / owner / name
        if not path.is_file():
            return self.missing("EntryNotFound")
        data = path.read_bytes()
        return self.send(200, data, {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT})

    def missing(self, code):
        return self.send(404, b"", {"X-Error-Code": code, "X-Repo-Commit": COMMIT})

    def send(self, status, data, headers):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *arguments):
        pass


def main():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ |= {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HUB_OFFLINE": "0", "HF_HOME": str(FOLDER / "home"),
        "HF_HUB_ETAG_TIMEOUT": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
    }  # fmt: skip
    os.environ.pop("HF_TOKEN", None)
    from huggingface_hub import constants

    from rrec_lib.model import load
    from rrec_lib.model.policy import weights_hash

    model, tokenizer = load.load_language_model("tiny-random")
    for part in (model, tokenizer):
        part.save_pretrained(SERVED / "owner")
    report: dict[str, Any] = {"expected": weights_hash(model)}

    def attempt(scenario, name, revision=None):
        REQUESTS.clear()
        start = time.monotonic()
        try:
            said = weights_hash(load.load_language_model(name, revision=revision)[0])
        except FileNotFoundError as problem:
            said = str(problem)
        report[scenario] = {"said": said, "seconds": time.monotonic() - start, "requests": [*REQUESTS]}

    for owner in (*REFUSALS, "slow", "portal", "empty"):
        attempt(owner, f"{owner}/model")
    os.environ["HF_TOKEN"] = "hf_made_up"
    attempt("gated with a token", "gated/model")
    attempt("no such revision", "owner/model", OTHER)
    constants.HF_HUB_OFFLINE = True
    attempt("offline without a download", "owner/model", COMMIT)
    constants.HF_HUB_OFFLINE = False
    attempt("download", "owner/model", COMMIT)
    attempt("again", "owner/model", COMMIT)
    (snapshot,) = (FOLDER / "home" / "hub" / "models--owner--model" / "snapshots").iterdir()
    REFUSALS["owner"] = (401, "GatedRepo")
    attempt("gated after the download", "owner/model", COMMIT)
    del REFUSALS["owner"]
    for path in ((snapshot / "tokenizer.json").resolve(), snapshot / "tokenizer.json"):
        path.unlink()
    constants.HF_HUB_OFFLINE = True
    attempt("offline with half of it", "owner/model", COMMIT)
    constants.HF_HUB_OFFLINE = False
    attempt("mended", "owner/model", COMMIT)
    weights = (snapshot / "model.safetensors").resolve()
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1000])
    attempt("cut off weights", "owner/model", COMMIT)
    constants.HF_HUB_OFFLINE = True
    attempt("offline with cut off weights", "owner/model", COMMIT)
    constants.HF_HUB_OFFLINE = False
    weights.write_bytes(whole)
    server.shutdown()
    server.server_close()
    attempt("no network after the download", "owner/model", COMMIT)
    attempt("no network", "owner/other")
    constants.HF_HUB_OFFLINE = True
    attempt("offline after the download", "owner/model", COMMIT)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
