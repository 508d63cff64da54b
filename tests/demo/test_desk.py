"""The demo's desk on the smoke profile, without Gradio: lists, words, comparisons and rewards are the library's."""

from dataclasses import replace
from threading import Thread

import pytest
import torch

from rrec_lib.data.examples import save_profile
from rrec_lib.demo import cards
from rrec_lib.demo.desk import ME, OTHER, Comparison, History, Listed, Rewarded, open_desk
from rrec_lib.evaluation.scoring import mask_items, score_items
from rrec_lib.model.prompts import MARKER, item_name
from rrec_lib.recommend.films import load_recommender, typed_example
from rrec_lib.recpo.advantages import grpo_advantages, rloo_advantages
from rrec_lib.recpo.rewards import fused_reward, ranking_reward, similarity_reward

MINE, THEIRS = History([3, 11, 7], [4.0, 2.5, 5.0]), History([20, 21], [3.0, 4.0])


@pytest.fixture(scope="module")
def desk(smoke_profile):
    with open_desk(smoke_profile) as opened:
        yield opened


@pytest.fixture(scope="module")
def model(smoke_profile, smoke_dataset):
    """The recommender by itself, its LoRA merged anew for each text."""
    return load_recommender(smoke_profile, dataset=smoke_dataset).model


def example(profile, history):
    return typed_example(history.rows, history.ratings, profile.data.window)


def listed_behind(model, states, history):
    scores = mask_items(score_items(states, model.item_embeddings, model.profile.reward.temperature), [history.rows])
    best = scores[0].argsort(descending=True, stable=True)[:10]
    return best.tolist(), scores[0].softmax(-1)[best]


def test_words_come_one_after_the_other_and_the_list_is_the_recommenders(desk, model, smoke_profile):
    *drafts, last = desk.write(MINE)
    written = model.reason([example(smoke_profile, MINE)])
    assert isinstance(last, Listed)
    assert drafts[-1] == last.text == written.texts[0]
    assert all(isinstance(draft, str) for draft in drafts)
    assert len(drafts) >= min(len(written.closed[0].ids), smoke_profile.rollouts.max_new_tokens) - 3 > 0  # each token
    assert last.finished == written.closed[0].finished
    rows, shares = listed_behind(model, written.states, MINE)
    assert last.rows == rows
    assert not set(rows) & set(MINE.rows)
    torch.testing.assert_close(torch.tensor(last.shares), shares, atol=1e-5, rtol=1e-4)


def test_the_prompt_is_what_the_model_reads(desk):
    text = desk.prompt(MINE)
    assert text.count("/5") == 3
    assert f"{item_name(desk.items[11])}, 2.5/5" in text


def test_typed_words_move_the_list_and_no_words_are_the_control(desk, model, smoke_profile):
    mine = [example(smoke_profile, MINE)]
    for text in ("Likes quiet films about trains.", "  Likes war.\n"):
        assert (
            desk.rank_again(MINE, text).rows == listed_behind(model, model.states_behind(mine, [text.strip()]), MINE)[0]
        )
    assert desk.rank_again(MINE, " ").rows == listed_behind(model, model.states(mine, "none"), MINE)[0]
    with pytest.raises(ValueError, match="2,001 characters; keep it to 2,000"):
        desk.rank_again(MINE, "x" * 2001)
    with pytest.raises(ValueError, match=f"Leave {MARKER} out"):
        desk.rank_again(MINE, f"Likes war. {MARKER}")


def test_a_comparison_is_of_the_controls(desk, model, smoke_profile):
    *drafts, found = desk.compare(MINE, THEIRS)
    assert isinstance(found, Comparison)
    mine, theirs = example(smoke_profile, MINE), example(smoke_profile, THEIRS)
    written = model.reason([mine, theirs])
    assert drafts[-1] == written.texts == [found.own.text, found.others.text]
    pair = [{**mine, "user_id": ME}, {**theirs, "user_id": OTHER}]
    for control, shown in (("own", found.own), ("none", found.none), ("other", found.others)):
        assert shown.rows == listed_behind(model, model.states(pair, control, written)[:1], MINE)[0], control
    assert found.own.rows != found.none.rows


@pytest.mark.parametrize("target", [40, 11])  # one of them was seen before
def test_rewards_are_the_librarys(desk, model, smoke_profile, target):
    *drafts, found = desk.reward(MINE, target, 3, seed=5)
    assert isinstance(found, Rewarded)
    mine, settings = example(smoke_profile, MINE), smoke_profile.reward
    group = model.sample([mine], 3, smoke_profile.rollouts.temperature, 5)
    assert found.texts == drafts[-1] == [one.texts[0] for one in group]
    scores = score_items(torch.stack([one.states for one in group], 1), model.item_embeddings, settings.temperature)
    scores, targets = mask_items(scores, [MINE.rows], torch.tensor([target])), torch.tensor([target])
    ranking, similarity = ranking_reward(scores, targets, settings.ndcg_k), similarity_reward(scores, targets)
    fused = fused_reward(ranking, similarity, settings.beta)
    expected = {"ranking": ranking, "similarity": similarity, "fused": fused}
    for name, values in expected.items():
        torch.testing.assert_close(torch.tensor([getattr(found, name)]), values, atol=1e-4, rtol=1e-3)
    assert min(found.ranking) > 0
    for name, advantages in (("grpo", grpo_advantages), ("rloo", rloo_advantages)):
        torch.testing.assert_close(torch.tensor([found.advantages[name]]), advantages(fused), atol=1e-2, rtol=1e-2)
    places = [1 + int((row > row[target]).sum()) for row in scores[0]]
    assert [low for low, _ in found.ranks] == places
    with pytest.raises(ValueError, match="2 to 8 reasonings, got 1"):
        next(iter(desk.reward(MINE, target, 1)))


def test_what_a_page_sends_is_checked(desk):
    sent = [{"row": 3, "name": "x", "rating": 4}, {"row": 11, "rating": "2.5"}]
    assert desk.history(sent) == History([3, 11], [4.0, 2.5])
    wrong = {
        "history is empty": [],
        "number 60": [{"row": 60, "rating": 4}],
        "number 'x'": [{"row": "x", "rating": 4}],
        "number None": ["Alien"],
        "got 'many'": [{"row": 3, "rating": "many"}],
        "got None": [{"row": 3}],
        "none is left": [{"row": row, "rating": 4} for row in range(len(desk.items))],
    }
    for message, value in wrong.items():
        with pytest.raises(ValueError, match=message):
            desk.history(value)
    with pytest.raises(ValueError, match=r"between 0\.5 and 5"):
        next(iter(desk.write(desk.history([{"row": 3, "rating": 9}]))))
    assert desk.target([{"row": 7}]) == 7
    with pytest.raises(ValueError, match="really seen next"):
        desk.target([])


def test_users_are_drawn_by_number_and_titles_completed(desk, smoke_profile):
    histories = [desk.drawn(number) for number in range(6)]
    assert histories == [desk.drawn(number) for number in range(6)]
    assert len({str(history) for history, _ in histories}) > 3
    assert all(0 < len(history.rows) <= smoke_profile.data.window for history, _ in histories)
    name = item_name(desk.items[5])
    assert desk.complete(name.upper())[0] == {"row": 5, "name": name}


def test_two_tabs_are_served_in_turn(desk):
    """Their texts don't mix, though both ask at once."""
    alone = [list(desk.write(history))[-1] for history in (MINE, THEIRS)]
    found: dict[int, object] = {}

    def ask(number, history):
        found[number] = list(desk.write(history))[-1]

    tabs = [Thread(target=ask, args=pair) for pair in enumerate((MINE, THEIRS))]
    for tab in tabs:
        tab.start()
    for tab in tabs:
        tab.join()
    assert [found[0], found[1]] == alone
    assert alone[0] != alone[1]


def test_a_mistake_in_the_midst_of_work_reaches_who_asked_and_the_next_one_is_served(desk, monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(desk.films.model, "sample", fail)
        with pytest.raises(RuntimeError, match="no room"):
            list(desk.write(MINE))
    assert isinstance(list(desk.write(MINE))[-1], Listed)


def test_data_of_the_readers_own_leave_out_an_adapter_of_another_catalogue(smoke_profile, tmp_path):
    save_profile(smoke_profile, tmp_path / "own")
    own = replace(
        smoke_profile,
        data=replace(smoke_profile.data, dataset=str(tmp_path / "own")),
        adapters={"recpo": "results/adapters/movielens-smollm2-recpo"},
    )
    with open_desk(own) as opened:
        assert opened.films.stage == "base"
        assert len(opened.items) == 60
    with pytest.raises(FileNotFoundError, match="elsewhere"), open_desk(replace(own, adapters={"recpo": "elsewhere"})):
        pass


# -- cards ------------------------------------------------------------------------------------------------------------

ITEMS = [
    {"title": "<b>Heat", "year": 1995, "genres": ["Crime", "Action & Co"]}, {"title": "Blue", "year": 0},
    {"title": "Three Colours", "year": 1994, "genres": []},
]  # fmt: skip


def test_cards_show_what_is_known_and_escape_it():
    shown = cards.cards(Listed("", True, [0, 1], [0.25, 0.031]), ITEMS)
    assert "&lt;b&gt;Heat" in shown
    assert "<b>Heat" not in shown
    assert "Action &amp; Co" in shown
    assert "25.0 %" in shown
    assert shown.count("rr-year") == 1  # the second film has none
    assert shown.index("Heat") < shown.index("Blue")
    assert "&lt;script" in cards.note("<script>") + cards.prompt("<script>")
    assert 'role="alert"' in cards.note("x", mistake=True)


def test_a_comparison_says_where_films_went():
    own, none = Listed("a < b", False, [0, 1], [0.5, 0.3]), Listed("", True, [1, 2], [0.5, 0.3])
    found = Comparison(History([2], [4.5]), own, none, Listed("c", True, [0, 1], [0.4, 0.3]))
    shown = cards.compared(found, ITEMS)
    assert "a &lt; b [unfinished]" in shown
    assert "1 place higher" in shown
    assert shown.count(">new<") == 1
    assert shown.count("same place") == 2
    assert "Who has seen Three Colours (1994), 4.5/5" in shown
    assert cards.shared(found).startswith("Of the 2 listed behind its own words, 1 are listed behind none")


def test_rewards_stand_best_first_with_bars_to_the_side_of_zero():
    found = Rewarded(["low", "high"], [True, False], [(9, 9), (1, 2)], [0.3, 1.0], [0.01, 0.2], [0.29, 0.96],
                     {"grpo": [-0.7, 0.7], "rloo": [-0.67, 0.67]})  # fmt: skip
    shown = cards.rewarded(found, 0.05, 1000, "Heat & Co")
    assert shown.index("high [unfinished]") < shown.index("low")
    assert "1 to 2" in shown
    assert "Place of Heat &amp; Co" in shown
    assert shown.count("rr-plus") == shown.count("rr-minus") == 2
    assert "0.95·R" in shown
    assert "likelier" in cards.lesson(found)
    assert "learn nothing" in cards.lesson(replace(found, fused=[0.5, 0.5]))
