"""The shipped MovieLens: its known counts, its titles, and what happens when a file is damaged."""

import importlib.util
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest

from rrec_lib.core.paths import resource
from rrec_lib.data.movielens import FILES, FOLDER, load_movielens, natural_title, source_checksum

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "make_movielens.py"


@pytest.fixture
def copy(tmp_path):
    return Path(shutil.copytree(resource(FOLDER), tmp_path / "movielens"))


def test_counts_are_those_grouplens_published():
    events, items = load_movielens()
    assert len(events) == 100_004
    assert events["user_id"].nunique() == 671
    assert len(items) == events["item_id"].nunique() == 9_066
    assert events["rating"].between(0.5, 5).all()
    assert (events["rating"] * 2 % 1 == 0).all()
    years = pd.to_datetime(events["timestamp"], unit="s").dt.year
    assert (years.min(), years.max()) == (1995, 2016)


def test_columns_types_and_order():
    events, items = load_movielens()
    assert events.dtypes.astype(str).to_dict() == {
        "user_id": "int64", "item_id": "int64", "rating": "float64", "timestamp": "int64"}  # fmt: skip
    assert events.equals(events.sort_values(["user_id", "timestamp", "item_id"], ignore_index=True))
    assert list(items.columns) == ["item_id", "title", "year", "genres"]
    assert str(items["year"].dtype) == "Int64"
    assert not items["year"].isna().any()


def test_items_are_read_as_people_write_them():
    _, items = load_movielens()
    rows = items.set_index("item_id")
    assert rows.loc[2571, "title"] == "The Matrix"
    assert rows.loc[2571, "year"] == 1999
    assert rows.loc[2571, "genres"] == ["Action", "Sci-Fi", "Thriller"]
    assert rows.loc[162376, "title"] == "Untitled (MovieLens 162376)"
    assert rows.loc[162376, "year"] == 0
    assert rows.loc[151307, "genres"] == []
    assert not items["title"].str.fullmatch(r"\s*|nan").any()
    assert not items["genres"].map(lambda genres: "(no genres listed)" in genres).any()


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Matrix, The", "The Matrix"),
        ("Blind Side, The ", "The Blind Side"),
        ("Good, the Bad and the Ugly, The", "The Good, the Bad and the Ugly"),
        ("City of Lost Children, The (Cité des enfants perdus, La)",
         "The City of Lost Children (La Cité des enfants perdus)"),
        ("Bear, The (Ours, L')", "The Bear (L'Ours)"),
        ("Enigma of Kaspar Hauser, The (a.k.a. Mystery of Kaspar Hauser, The)",
         "The Enigma of Kaspar Hauser (a.k.a. The Mystery of Kaspar Hauser)"),
        ("I, Robot", "I, Robot"),
        ("Paris, Texas", "Paris, Texas"),
        ("Girl, Interrupted", "Girl, Interrupted"),
        ("The Matrix", "The Matrix"),
    ],
)  # fmt: skip
def test_natural_title(raw, expected):
    assert natural_title(raw) == expected
    assert natural_title(expected) == expected  # twice changes nothing more


@pytest.mark.parametrize("name", FILES)
def test_a_corrupted_file_is_named_with_the_remedy(copy, name):
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1  # one bit
    (copy / name).write_bytes(bytes(content))
    with pytest.raises(ValueError, match=rf"{name} is corrupted \(sha256 [0-9a-f]{{64}} instead of [0-9a-f]{{64}}\)"):
        load_movielens(copy)
    with pytest.raises(ValueError, match=f"git checkout -- {FOLDER}"):
        source_checksum(copy)


@pytest.mark.parametrize("name", [*FILES, "SHA256SUMS"])
def test_a_missing_file_is_named_with_the_remedy(copy, name):
    (copy / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} is missing; restore it with `git checkout -- {FOLDER}`"):
        load_movielens(copy)


def test_a_damaged_list_of_checksums_is_an_error_too(copy):
    whole = (copy / "SHA256SUMS").read_text()
    (copy / "SHA256SUMS").write_text(whole.splitlines()[0] + "\n")
    with pytest.raises(ValueError, match=r"has no line for ratings\.csv\.gz"):
        load_movielens(copy)
    (copy / "SHA256SUMS").write_text("nonsense\n")
    with pytest.raises(ValueError, match="SHA256SUMS is corrupted"):
        load_movielens(copy)


def test_an_untouched_copy_loads(copy):
    (copy / "SHA256SUMS").write_bytes((copy / "SHA256SUMS").read_bytes().replace(b"\n", b"\r\n"))  # as Windows might
    assert source_checksum(copy) == source_checksum()


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("make_movielens", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_script_refuses_another_source(script, tmp_path, capsys):
    (tmp_path / "other.pkl").write_bytes(b"not the wheel's file")
    output = tmp_path / "out"
    assert script.main(["--source", str(tmp_path / "other.pkl"), "--output", str(output)]) == 1
    assert "instead of" in capsys.readouterr().err
    assert not output.exists()


def test_the_script_writes_the_same_bytes_for_the_same_table(script):
    table = pd.DataFrame({"a": [1, 2], "b": ["é", None]})
    assert script.compressed_csv(table) == script.compressed_csv(table.copy())
    assert script.compressed_csv(table) != script.compressed_csv(table.iloc[::-1])


def test_a_failed_write_leaves_the_old_files(script, tmp_path, monkeypatch):
    folder = tmp_path / "data"
    script.write(folder, {"one": b"old", "two": b"old"})

    def full(self, content):
        raise OSError("disk full")

    monkeypatch.setattr(script.Path, "write_bytes", full)
    with pytest.raises(OSError, match="disk full"):
        script.write(folder, {"one": b"new", "two": b"new"})
    assert (folder / "one").read_text() == (folder / "two").read_text() == "old"
    assert list(tmp_path.iterdir()) == [folder]  # no half-written file stays behind
