"""Prepared data on disk: the manifest, damage, and writes that fail half-way."""

import dataclasses
import json
import os

import pytest
from datasets import DatasetDict

from rrec_lib.core.profiles import MADE_AT_ONCE, DataProfile, load_profile
from rrec_lib.data import prepared
from rrec_lib.data.examples import LOADERS, prepare, save_profile
from rrec_lib.data.movielens import source_checksum
from rrec_lib.data.prepared import catalogue_hash, load_prepared, save_prepared

DATA = DataProfile(dataset="hand-made", max_users=None, catalogue_size=None, min_target_rating=4.0, k_core=0, window=3)


@pytest.fixture
def build(steady_log, item_table):
    def function(data: DataProfile = DATA) -> DatasetDict:
        return prepare(steady_log, item_table(steady_log), data)

    return function


@pytest.fixture
def saved(tmp_path, build):
    return save_prepared(build(), tmp_path / "prepared", dataclasses.asdict(DATA))


def test_round_trip(saved, build):
    original, loaded = build(), load_prepared(saved)
    assert list(loaded) == list(original)
    for name in original:
        assert loaded[name].to_list() == original[name].to_list()


def test_manifest(saved, build):
    manifest = json.loads((saved / "manifest.json").read_text())
    assert manifest["arguments"] == dataclasses.asdict(DATA)
    assert manifest["rows"] == {"train": 72, "valid": 9, "test": 9, "items": 10}
    assert manifest["users"] == {"train": 10, "valid": 9, "test": 9}
    assert manifest["catalogue"] == catalogue_hash(build()["items"])
    assert len(manifest["catalogue"]) == 16
    assert manifest["source_sha256"] is None


def test_a_profile_s_source_is_recorded(tmp_path):
    profile = load_profile("smoke")
    save_profile(profile, tmp_path / "smoke")
    manifest = json.loads((tmp_path / "smoke" / "manifest.json").read_text())
    assert manifest["source_sha256"] == source_checksum()
    assert manifest["arguments"] == dataclasses.asdict(profile.data)
    with pytest.raises(ValueError, match="is prepared already"):  # other sizes would stand in its manifest alone
        save_profile(load_profile("smoke", {"data.dataset": str(tmp_path / "smoke")}), tmp_path / "again")


def test_a_profile_says_how_its_prepared_data_were_made(saved, monkeypatch):
    """What a profile has for data that it makes itself is not what a report or a prompt may take for a folder's."""
    profile = load_profile("cpu", {"data.dataset": str(saved), "data.window": 3})
    assert profile.data == dataclasses.replace(DATA, dataset=str(saved))
    with pytest.raises(ValueError, match=r"prepared already, with window 3, so data\.window=5 would change nothing"):
        load_profile("cpu", {"data.dataset": str(saved), "data.window": 5})
    manifest = json.loads((saved / "manifest.json").read_text())
    manifest["arguments"] = {"window": 7, "min_target_rating": -0.5, "start": "2000-01"}
    (saved / "manifest.json").write_text(json.dumps(manifest))
    made = load_profile("cpu", {"data.dataset": str(saved)}).data
    assert (made.window, made.min_target_rating, made.k_core) == (7, -0.5, 5)
    assert (made.max_users, made.catalogue_size) == (None, None)
    for damage in ("[]", "{}", '{"arguments": []}', "{"):
        (saved / "manifest.json").write_text(damage)
        with pytest.raises(ValueError, match=r"manifest\.json is damaged .*`rrec prepare` again"):
            load_profile("cpu", {"data.dataset": str(saved)})
    assert set(MADE_AT_ONCE) == set(LOADERS)
    saved.rename(saved.with_name("movielens"))
    monkeypatch.chdir(saved.parent)
    assert load_profile("cpu").data.window == 5  # a folder of that name is not what the profile means


def test_what_lies_beside_prepared_data_is_not_replaced(saved, tmp_path, build):
    (saved / ".hidden").touch()
    save_prepared(build(), saved, dataclasses.asdict(DATA))
    (saved / "notes.md").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds notes.md too, which isn't part of it"):
        save_prepared(build(), saved, dataclasses.asdict(DATA))
    assert (saved / "notes.md").read_text() == "mine"
    (saved / "notes.md").rename(saved / "train" / "notes.md")
    with pytest.raises(FileExistsError, match=r"holds train/notes.md too"):
        save_prepared(build(), saved, dataclasses.asdict(DATA))
    (saved / "train" / "notes.md").unlink()
    save_prepared(build(), saved, dataclasses.asdict(DATA))


def test_a_manifest_that_is_somebody_elses_saves_what_lies_beside_it(tmp_path, build):
    (tmp_path / "extension").mkdir()
    (tmp_path / "extension" / "manifest.json").write_text("{ // mine\n}")
    (tmp_path / "extension" / "src.js").write_text("years of work")
    with pytest.raises(FileExistsError, match=r"holds src\.js too"):
        save_prepared(build(), tmp_path / "extension", {})
    assert (tmp_path / "extension" / "src.js").read_text() == "years of work"


def test_the_same_data_gives_the_same_manifest(saved, tmp_path, build):
    again = save_prepared(build(), tmp_path / "again", dataclasses.asdict(DATA))
    assert (again / "manifest.json").read_bytes() == (saved / "manifest.json").read_bytes()


def test_hashes_follow_content_and_order(build):
    dataset = build()
    train = dataset["train"]
    assert prepared.split_hash(train) == prepared.split_hash(build()["train"])
    assert prepared.split_hash(train.select(range(71))) != prepared.split_hash(train)
    assert prepared.split_hash(train.select(range(71, -1, -1))) != prepared.split_hash(train)
    assert prepared.split_hash(train.select(list(range(71, -1, -1))[::-1])) == prepared.split_hash(train)
    longer = build(dataclasses.replace(DATA, window=4))["train"]
    assert prepared.split_hash(longer) != prepared.split_hash(train)
    items = dataset["items"]
    retitled = items.map(lambda row: {"title": row["title"] + "!"} if row["item_id"] == 3 else {})
    assert catalogue_hash(retitled) != catalogue_hash(items)
    assert catalogue_hash(items.select(range(9, -1, -1))) != catalogue_hash(items)


def test_moving_a_value_between_lists_changes_the_hash():
    """The flattened values are equal, only the lengths of the lists differ."""
    from datasets import Dataset

    one, other = Dataset.from_dict({"a": [[1, 2], [3]]}), Dataset.from_dict({"a": [[1], [2, 3]]})
    assert prepared.split_hash(one) != prepared.split_hash(other)


def test_saving_replaces_an_older_one(saved, build):
    shorter = dataclasses.replace(DATA, window=1)
    save_prepared(build(shorter), saved, dataclasses.asdict(shorter))
    assert max(len(row["history"]) for row in load_prepared(saved)["train"]) == 1
    assert [path.name for path in saved.parent.iterdir()] == ["prepared"]


@pytest.mark.parametrize("step", ["save", "manifest", "rename"])
def test_a_failure_half_way_leaves_the_previous_one(saved, monkeypatch, step, build):
    before = (saved / "manifest.json").read_bytes()
    real = os.replace

    def fail(*args, **kwargs):
        raise OSError("disk full")

    def fail_on_new(source, target):
        if str(source).endswith("new"):
            raise OSError("disk full")
        real(source, target)

    if step == "save":
        monkeypatch.setattr(DatasetDict, "save_to_disk", fail)
    elif step == "manifest":
        monkeypatch.setattr(prepared, "manifest", fail)
    else:
        monkeypatch.setattr(os, "replace", fail_on_new)
    shorter = dataclasses.replace(DATA, window=1)
    with pytest.raises(OSError, match="disk full"):
        save_prepared(build(shorter), saved, dataclasses.asdict(shorter))
    monkeypatch.undo()
    assert (saved / "manifest.json").read_bytes() == before
    assert max(len(row["history"]) for row in load_prepared(saved)["train"]) == 3
    assert [path.name for path in saved.parent.iterdir()] == ["prepared"]  # nothing half-written beside it


def test_a_folder_that_is_not_prepared_data_is_not_replaced(tmp_path, build):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="not replaced"):
        save_prepared(build(), tmp_path / "thesis", {})
    assert (tmp_path / "thesis" / "chapter1.txt").read_text() == "years of work"


def test_an_empty_folder_may_be_used(tmp_path, build):
    (tmp_path / "new").mkdir()
    assert load_prepared(save_prepared(build(), tmp_path / "new", {}))


def test_no_progress_bar_and_the_setting_is_restored(tmp_path, capfd, build):
    from datasets.utils.logging import is_progress_bar_enabled

    shown = is_progress_bar_enabled()
    save_prepared(build(), tmp_path / "quiet", {})
    assert is_progress_bar_enabled() == shown
    assert capfd.readouterr() == ("", "")


def test_missing_manifest(saved):
    (saved / "manifest.json").unlink()
    with pytest.raises(FileNotFoundError, match="run `rrec prepare`"):
        load_prepared(saved)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_prepared(saved.parent / "nowhere")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"sha256": 1, "format": 1}'])
def test_unreadable_manifest(saved, text):
    (saved / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match=r"manifest\.json is corrupted"):
        load_prepared(saved)


def test_another_format_is_refused(saved):
    manifest = json.loads((saved / "manifest.json").read_text())
    (saved / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))
    with pytest.raises(ValueError, match="has format 99, this version reads 1"):
        load_prepared(saved)


def test_changed_data_is_noticed(saved, tmp_path, build):
    other = save_prepared(build(dataclasses.replace(DATA, window=1)), tmp_path / "other", {})
    for split in ("train", "items"):
        if split == "train":
            (arrow,) = (saved / split).glob("*.arrow")
            (replacement,) = (other / split).glob("*.arrow")
            arrow.write_bytes(replacement.read_bytes())
    with pytest.raises(ValueError, match=r"split 'train' .* is corrupted .* run `rrec prepare` again"):
        load_prepared(saved)


def test_truncated_data_is_noticed(saved):
    (arrow,) = (saved / "test").glob("*.arrow")
    arrow.write_bytes(arrow.read_bytes()[:100])
    with pytest.raises(ValueError, match="is corrupted"):
        load_prepared(saved)


def test_a_missing_split_is_noticed(saved):
    import shutil

    shutil.rmtree(saved / "valid")
    with pytest.raises(ValueError, match="is corrupted"):
        load_prepared(saved)
