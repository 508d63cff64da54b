"""What beams miss: exact rankings beside those by beams, on the same rows, of recorded searches."""

import json

import pytest

from rrec_lib.core.results import write_json
from rrec_lib.experiments.beams import compare_beams

TINY = {"size": 4, "length": 4, "hidden": 16, "layers": 1, "dropout": 0.1, "learning_rate": 1e-3}


def recorded(folder, name, *parameters):
    trials = [{"parameters": one, "valid": value} for value, one in enumerate(parameters)]
    write_json(folder / f"{name.lower()}.json", {"trials": trials})


@pytest.mark.parametrize(("name", "points"), [("TIGER", [TINY]), ("D3", [{"guidance": 0.5}, {"guidance": 1.0}])])
def test_enough_beams_miss_nothing_and_one_ties_nearly_all(
    smoke_profile, smoke_dataset, tmp_path, monkeypatch, name, points
):
    recorded(tmp_path, name, *points)
    everything = len(smoke_dataset["items"])
    found = compare_beams(name, smoke_profile, tmp_path, tmp_path / "found.json", 0, 2e-5, 1, (everything, 1), 12)
    assert json.loads((tmp_path / "found.json").read_text()) == json.loads(json.dumps(found))
    assert found["parameters"] == points[-1]
    assert found["rows"] == 12
    ranked = found["ranked"]
    assert list(ranked) == ["exact", str(everything), "1"]
    assert ranked["exact"]["less exact"] == {"mean": 0, "low": 0, "high": 0}
    assert ranked[str(everything)]["less exact"]["mean"] == pytest.approx(0, abs=1e-3)
    assert ranked[str(everything)]["reached"] > 0.99 > ranked["1"]["reached"]
    assert ranked["1"]["ndcg@20"]["mean"] != ranked["exact"]["ndcg@20"]["mean"]
    monkeypatch.setattr("rrec_lib.experiments.beams._timed", lambda model: None)  # all is kept
    again = compare_beams(name, smoke_profile, tmp_path, tmp_path / "found.json", 0, 2e-5, 1, (everything, 1), 12)
    assert again["ranked"] == ranked
    for one in ranked.values():
        assert one["ndcg@20"]["mean"] <= one["hit@20"]["mean"]


def test_what_does_not_write_or_was_not_searched_is_refused(smoke_profile, tmp_path):
    with pytest.raises(ValueError, match=r"EASE does not write through a trie; choose one of TIGER"):
        compare_beams("EASE", smoke_profile, tmp_path, tmp_path / "found.json", 0, 1, 1)
    with pytest.raises(FileNotFoundError, match=r"d3\.json"):
        compare_beams("D3", smoke_profile, tmp_path, tmp_path / "found.json", 0, 1, 1)
    assert not (tmp_path / "found.json").exists()
