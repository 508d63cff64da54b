"""The data card: numbers by hand, both recipes, and a figure whose alternative text tells the truth."""

import json
import re

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from matplotlib.patches import Rectangle

from rrec_lib.cli.main import main
from rrec_lib.data.cards import LICENCES, card_figure, card_markdown, card_text, data_card, gini

DAY = 86_400


def rows(*examples):
    return Dataset.from_list(
        [
            {"user_id": user, "history": history, "seen": seen, "target": target, "target_timestamp": day * DAY,
             "repeat": target in seen}
            for user, history, seen, target, day in examples
        ]
    )  # fmt: skip


@pytest.fixture
def dataset():
    return DatasetDict(
        train=rows(("a", [0], [0], 1, 1), ("a", [0, 1], [0, 1], 0, 2), ("b", [2], [2], 1, 3), ("b", [1], [2, 1], 1, 4)),
        valid=rows(("a", [0], [0, 1], 3, 5), ("c", [4], [4], 2, 6)),
        test=rows(("c", [2], [4, 2], 4, 7), ("d", [3], [3], 1, 8)),
        items=Dataset.from_list([{"item_id": number} for number in range(6)]),
    )


CSV = {"arguments": {}, "dropped": {"k_core": 1234}, "faults": {"e.csv": {"bad_id": {"count": 2, "treatment": "dropped",
       "first": [{"line": 7, "found": ""}]}}}}  # fmt: skip


def test_numbers_by_hand(dataset):
    card = data_card(dataset, CSV)
    assert (card["users"], card["items"], card["examples"]) == (4, 6, 8)
    assert card["density"] == pytest.approx(8 / 24)
    train, valid, test = (card["splits"][name] for name in ("train", "valid", "test"))
    assert (train["rows"], train["users"], train["first"], train["last"]) == (4, 2, "1970-01-02", "1970-01-05")
    assert train["repeats"] == pytest.approx(2 / 4)
    assert train["history"] == {"10%": 1, "50%": 1, "90%": 2, "100%": 2}
    assert "cold_items" not in train
    assert (valid["cold_items"], valid["cold_users"]) == (0.5, 0.5)  # item 3, user c; item 2 was in a history
    assert (test["cold_items"], test["cold_users"]) == (0.5, 1.0)  # item 4
    assert card["popularity"]["top 20%"] == pytest.approx(3 / 4)  # one item of six
    assert card["popularity"]["gini"] == pytest.approx(gini(np.array([1, 3, 0, 0, 0, 0])))
    assert card["licence"] == LICENCES["csv"]


def test_gini_by_hand():
    assert gini(np.array([2, 2, 2, 2])) == 0
    assert gini(np.array([0, 0, 0, 8])) == pytest.approx(0.75)
    assert gini(np.array([1, 3])) == pytest.approx(0.25)
    assert gini(np.zeros(3)) == 0


def test_the_card_as_text_and_as_a_page(dataset):
    card = data_card(dataset, CSV)
    for text in (card_text(card), card_markdown(card)):
        for expected in ("33.333%", "1970-01-05", "dropped, k_core: 1,234", "bad_id 2 (dropped), first on line 7"):
            assert expected in text
    table = [line for line in card_markdown(card).splitlines() if line.startswith("|")]
    assert {line.count("|") for line in table} == {3, 5}


def test_the_figure_s_text_states_the_finding(dataset):
    figure, alt = card_figure(dataset)
    assert alt.startswith("The most popular tenth of 6 items takes 75% of the training targets;")
    assert "1970-01-08" in alt
    left, right = figure.axes
    assert np.asarray(left.lines[0].get_ydata())[1] == pytest.approx(3 / 4)
    assert sum(bar.get_height() for bar in right.patches if isinstance(bar, Rectangle)) == 8


@pytest.mark.parametrize("recipe", ["clean", "official"])
def test_inspect_shows_either_recipe(recipe, tmp_path, capsys):
    raw = ["--raw-dir", "tests/reference/raw", "--category", "Adversarial_A", "--start", "2016-01", "--end", "2018-12"]
    out = str(tmp_path / "out")
    assert main(["prepare", "amazon", *raw, "--recipe", recipe, "--out", out, "--max-faults", "0.5"]) == 0
    said = capsys.readouterr().out
    rows = {name: int(re.findall(rf"([\d,]+) {name}", said)[0].replace(",", "")) for name in ("train", "valid", "test")}
    page, figure = tmp_path / "card.md", tmp_path / "card.png"
    assert main(["inspect", out, "--markdown", str(page), "--figure", str(figure)]) == 0
    shown = capsys.readouterr().out
    (counts,) = re.findall(r"^examples +([\d,]+) +([\d,]+) +([\d,]+)$", shown, re.MULTILINE)
    assert [int(count.replace(",", "")) for count in counts] == list(rows.values())
    assert f"Adversarial_A, recipe {recipe}, 2016-01 to 2018-12" in shown
    assert "without a licence to redistribute" in page.read_text()
    assert figure.read_bytes().startswith(b"\x89PNG")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["recipe"] == recipe


def test_a_damaged_folder_is_not_inspected(tmp_path, capsys):
    raw = ["--raw-dir", "tests/reference/raw", "--category", "Adversarial_A", "--start", "2016-01", "--end", "2018-12"]
    out = tmp_path / "out"
    assert main(["prepare", "amazon", *raw, "--recipe", "official", "--out", str(out), "--max-faults", "0.5"]) == 0
    file = next((out / "test").glob("*.arrow"))
    file.write_bytes(file.read_bytes()[:-8] + bytes(8) + b"x")
    assert main(["inspect", str(out)]) == 2
    assert "is corrupted" in capsys.readouterr().err
    assert main(["inspect", str(tmp_path)]) == 2
    assert "not a prepared dataset" in capsys.readouterr().err
