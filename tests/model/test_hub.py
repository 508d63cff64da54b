"""Loading from a hub: each refusal is named after one request, and what was downloaded once needs no network."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

GATED = ["is gated", "no token", "accept its licence at http://127.0.0.1", "hf auth login", "HF_TOKEN"]
SAID = {
    "gated": GATED,
    "forbidden": GATED,
    "gated with a token": ["is gated", "your token gives no access", "accept its licence"],
    "badtoken": ["does not accept your token", "hf auth login"],
    "absent": ["the hub has no 'absent/model'", "check its spelling"],
    "no such revision": [f"has no revision '{'b' * 40}'", "set model.revision"],
    "empty": ["has no config.json"],
    "busy": ["answers 503", "later"],
    "slow": ["can't be reached (ReadTimeout", "check the network"],
    "no network": ["can't be reached (ConnectError", "check the network"],
    "portal": ["does not answer as the hub does"],
    "offline without a download": ["HF_HUB_OFFLINE is set", "to download 'owner/model'"],
    "offline with half of it": ["what was downloaded of", "vocabulary is missing", "HF_HUB_OFFLINE is set"],
    "offline with cut off weights": ["what was downloaded of", "can't be loaded", "HF_HUB_OFFLINE is set"],
    "cut off weights": ["what was downloaded of", "delete the folder"],
}
LOADED = (
    "download",
    "again",
    "gated after the download",
    "no network after the download",
    "offline after the download",
    "mended",
)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    script = Path(__file__).with_name("hub_run.py")
    command = [sys.executable, str(script), str(tmp_path_factory.mktemp("hub"))]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def test_every_scenario_is_looked_at(report):
    assert set(report) == {"expected", *SAID, *LOADED}


@pytest.mark.parametrize("scenario", SAID)
def test_a_refusal_is_named_at_once(report, scenario):
    found = report[scenario]
    assert found["said"].startswith("no language model '")
    assert [words for words in SAID[scenario] if words not in found["said"]] == []
    others = {words[0] for name, words in SAID.items() if words[0] not in SAID[scenario][0]} - set(SAID[scenario])
    assert [words for words in others if words in found["said"]] == []
    assert found["seconds"] < 5
    assert len(found["requests"]) <= (1 if scenario != "cut off weights" else 5), found["requests"]


@pytest.mark.parametrize("scenario", LOADED)
def test_a_model_is_loaded_from_the_hub_and_later_without_it(report, scenario):
    assert report[scenario]["said"] == report["expected"]
    assert report[scenario]["seconds"] < 10
    downloaded = [line for line in report[scenario]["requests"] if line.startswith("GET") and "/resolve/" in line]
    assert bool(downloaded) == (scenario in ("download", "mended"))


def test_offline_nothing_is_asked_for(report):
    assert report["offline after the download"]["requests"] == []
    assert report["again"]["requests"], "there is a way to see requests"
