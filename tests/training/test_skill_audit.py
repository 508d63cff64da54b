"""The audit of reasonings: shares, truth, contradictions and rewards, each seen where it is wrong."""

import pytest

from rrec_lib.training.skill_audit import audit, step_figures
from rrec_lib.training.skills import SKILLS, World, world_of

ITEMS = [
    {"title": "Alien", "year": 1979, "genres": ["Horror"]},
    {"title": "Aliens", "year": 1986, "genres": ["Action"]},
    {"title": "Heat", "year": 1995, "genres": ["Crime"]},
    {"title": "Big", "year": 1988, "genres": ["Comedy"]},
]
WORLD = World(ITEMS, [[1], [0], [1], [0]])
EXAMPLE = {"history": [0, 2, 3], "history_ratings": [5.0, 4.0, 1.0], "seen": [0, 2, 3]}
TEXTS = [
    "Likes Horror and Crime; rates Comedy lower.",  # three true statements
    "Likes Comedy.",  # one that is false
    "People who liked Alien (1979) also liked Aliens (1986) and Heat (1995).",  # the second isn't a neighbour
    "Likes Horror; rates Horror lower.",  # of two statements that contradict each other one is true
    "I think that Alien",
    "Let me think about what could come next for this person.",
]


def test_texts_are_counted_by_skill_and_their_statements_by_truth():
    found = audit(TEXTS, [EXAMPLE] * 6, WORLD, [1.0, 0.0, 0.5, 0.2, 0.3, 0.1])
    assert found.shares == {"taste": 3 / 6, "association": 1 / 6, "drift": 0.0, "idle": 1 / 6}
    assert found.parsed_share == pytest.approx(5 / 6)
    assert (found.statements, found.true, found.contradicting) == (8, 5, 1)
    assert found.true_share == 5 / 8
    assert found.rewards == pytest.approx({"taste": 0.4, "association": 0.5, "none": 0.3, "idle": 0.1})
    assert found.skills_used == ["taste", "association"]
    assert audit(["Likes many things."], [EXAMPLE], WORLD).skills_used == []  # it says nothing
    assert len(found.missed) == 4
    assert audit(TEXTS, [EXAMPLE] * 6, WORLD).rewards == {}


def test_what_the_skills_write_reaches_every_bar_and_of_another_history_it_does_not(smoke_dataset):
    world, examples = world_of(smoke_dataset), list(smoke_dataset["train"])[:120]
    texts = [list(SKILLS.values())[number % 3](example, world) for number, example in enumerate(examples)]
    found = audit(texts, examples, world)
    assert (found.missed, found.true_share, found.parsed_share) == ([], 1.0, pytest.approx(1.0))
    others = audit(texts, examples[60:] + examples[:60], world)
    assert others.shares == found.shares
    assert [bar for bar in others.missed if "statements are true" in bar]
    only_taste = audit([SKILLS["taste"](example, world) for example in examples], examples, world)
    assert only_taste.missed == ["1 skills, below 3"]
    assert "nothing is stated" in audit(["Hm."], examples[:1], world).missed


def test_a_steps_figures_have_one_set_of_names_and_may_be_averaged():
    examples, rewards = [EXAMPLE] * 6, [1.0, 0.0, 0.5, 0.2, 0.3, 0.1]
    whole = step_figures(TEXTS, examples, WORLD, rewards)
    halves = [step_figures(TEXTS[part], examples[part], WORLD, rewards[part]) for part in (slice(3), slice(3, 6))]
    assert whole.keys() == halves[0].keys() == halves[1].keys()
    assert whole == pytest.approx({name: (halves[0][name] + halves[1][name]) / 2 for name in whole})
    assert whole["taste_reward_part"] / whole["taste_share"] == pytest.approx(0.4)
    assert whole["true_statements"] / whole["statements"] == pytest.approx(5 / 8)
    parts = [value for name, value in whole.items() if name.endswith("_reward_part")]
    assert sum(parts) == pytest.approx(sum(rewards) / 6)


def test_each_text_needs_its_example():
    with pytest.raises(ValueError, match=r"got \[1, 6\] of them"):
        audit(TEXTS, [EXAMPLE], WORLD)
    with pytest.raises(ValueError, match="needs texts"):
        audit([], [], WORLD)
