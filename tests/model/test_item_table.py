"""The item table: what its file is tied to."""

import torch

from rrec_lib.model import item_table as table_module
from rrec_lib.model import prompts
from rrec_lib.model.encode import encode
from rrec_lib.model.item_table import item_table


def test_the_item_table_is_cached_by_weights_prompts_and_catalogue(fresh, trained, items, tmp_path, monkeypatch):
    # Both policies are loaded by now: in a new cache folder the packaged model would be converted again.
    monkeypatch.setenv("RREC_CACHE", str(tmp_path))
    encoded = []
    monkeypatch.setattr(table_module, "encode", lambda *a, **k: encoded.append(1) or encode(*a, **k))

    def misses(*arguments, **options):
        before = len(encoded)
        item_table(*arguments, **options)
        return len(encoded) - before

    table = item_table(fresh, items)
    assert len(encoded) == 1
    assert torch.equal(item_table(fresh, items), table)
    assert misses(fresh, items) == 0
    assert misses(fresh, items, use_cache=False) == 1
    assert misses(fresh, items[1:]) == 1
    assert misses(fresh, items[::-1]) == 1  # row order is part of the catalogue
    assert misses(trained, items) == 1
    with monkeypatch.context() as patch:
        patch.setattr(prompts, "ITEM_INSTRUCTION", "Describe this film.")
        assert misses(fresh, items) == 1
    assert misses(fresh, items) == 0
    assert not list(tmp_path.rglob("*.tmp"))
