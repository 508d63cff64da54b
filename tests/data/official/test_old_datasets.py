"""The official trainer pins datasets 3.4.1: what is written for it must load there, and in the version at hand."""

import gzip
import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from datasets import load_from_disk

from rrec_lib.data.amazon.raw import raw_files
from rrec_lib.data.official.recipe import OfficialRecipe, save_official

PINNED = "3.4.1"
KNOWN = {"Value", "Sequence"}  # of the features that datasets had then, those used here
LOAD = """
import sys, datasets
data = datasets.load_from_disk(sys.argv[1])
rows = [len(data[name]) for name in sorted(data)]
print(datasets.__version__, sorted(data), rows, data["test"][0], data["item_info"][0])
"""


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    folder = tmp_path_factory.mktemp("official")
    with gzip.open(folder / "Tiny.csv.gz", "wt") as file:
        file.write("user_id,parent_asin,rating,timestamp\n")
        file.writelines(f"u{i % 4},A{i % 7},4.0,{1_666_000_000_000 + 86_400_000 * i}\n" for i in range(40))
    with gzip.open(folder / "meta_Tiny.jsonl.gz", "wt") as file:
        rows = ({"parent_asin": f"A{i}", "title": f"Title {i}", "price": 1.0, "features": ["a"]} for i in range(7))
        file.writelines(json.dumps(row) + "\n" for row in rows)
    save_official(raw_files(folder, "Tiny"), OfficialRecipe(), folder / "out")
    return folder / "out"


def feature_types(value):
    """Every ``_type`` in a split's metadata."""
    if not isinstance(value, dict):
        return set()
    own = {value["_type"]} if isinstance(value.get("_type"), str) else set()
    return own.union(*map(feature_types, value.values()))


def test_no_feature_is_newer_than_the_pinned_version(official):
    found = [json.loads(path.read_text())["features"] for path in sorted(official.glob("*/dataset_info.json"))]
    assert len(found) == 4
    assert all(feature_types(features) == KNOWN for features in found)
    assert feature_types({"a": {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"}}) == {
        "List",
        "Value",
    }
    assert load_from_disk(str(official))["test"][0]["item_asins"]


@pytest.mark.slow
def test_the_pinned_version_loads_it(official, tmp_path):
    venv.create(tmp_path / "old", with_pip=True)
    python = tmp_path / "old" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    install = [python, "-m", "pip", "install", "-q", f"datasets=={PINNED}"]
    if subprocess.run(install, capture_output=True).returncode:
        pytest.skip(f"datasets {PINNED} can't be installed here")
    run = subprocess.run([python, "-c", LOAD, official], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-500:]
    assert run.stdout.startswith(f"{PINNED} ['item_info', 'test', 'train', 'valid']")
    data = load_from_disk(str(official))
    rows = [len(data[name]) for name in sorted(data)]
    assert f"{rows} {data['test'][0]} {data['item_info'][0]}" in run.stdout
    for path in Path(official).glob("*/dataset_info.json"):  # the control: what datasets writes by itself
        path.write_text(path.read_text().replace('"Sequence"', '"List"'))
    run = subprocess.run([python, "-c", LOAD, official], capture_output=True, text=True)
    assert "Feature type 'List' not found" in run.stderr
