"""People in the page: rewards are the library's, and films move as another text is put before the marker."""

import re

import numpy as np
import pytest
import torch
from browser import test_browser, test_explorables  # tests/ is on the path
from stage import EXPLORE

from rrec_lib.evaluation.ranks import target_rank
from rrec_lib.recpo import advantages, rewards

pytestmark = pytest.mark.browser
browser, page, visit = test_browser.browser, test_explorables.page, test_explorables.visit
CLOSE = test_explorables.CLOSE


@pytest.fixture(scope="module")
def shipped():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXPLORE.parents[2] / "scripts"))
        from people import read_page

        return read_page()


def library(scores, target, k, beta):
    """What the page computes, for (G, N) scores of a group."""
    wanted = torch.tensor([target])
    ranking, similarity = (
        rewards.ranking_reward(scores[None], wanted, k),
        rewards.similarity_reward(scores[None], wanted),
    )
    fused = rewards.fused_reward(ranking, similarity, beta)
    group = {"ranking": ranking, "similarity": similarity, "fused": fused}
    group |= {"grpo": advantages.grpo_advantages(fused), "rloo": advantages.rloo_advantages(fused)}
    return {name: values[0] for name, values in group.items()}


def test_rewards_and_advantages_are_the_librarys(page):
    rng = np.random.default_rng(0)
    cases, wanted, ties = [], [], 0
    for case in range(test_explorables.STATES):
        size, target = int(rng.integers(3, 40)), 1
        drawn: np.ndarray = rng.integers(-3, 4, (4, size)) if case % 2 else rng.normal(0, 3, (4, size))
        scores = torch.tensor(drawn, dtype=torch.float64)
        scores[:, 0] = -torch.inf  # seen
        k, beta = int(rng.integers(1, 50)), float(rng.uniform())
        greater, equal = target_rank(scores, torch.full((4,), target))
        parts = zip(
            greater.tolist(), equal.tolist(), scores[:, target].tolist(), scores.logsumexp(1).tolist(), strict=True
        )
        behind = [dict(zip(("greater", "equal", "score", "total"), part, strict=True)) for part in parts]
        cases.append([behind, k, beta])
        wanted.append(library(scores, target, k, beta))
        ties += int((equal > 1).sum())
    assert ties > 1000
    for found, right in zip(test_explorables.call(page, "people", "rewardsOf", cases), wanted, strict=True):
        for name, values in right.items():
            np.testing.assert_allclose(found[name], values, **CLOSE)


def rows(view) -> list[list[str]]:
    """The numbers of the table below the picture."""
    found = view.locator(".explore-details tbody tr:nth-child(odd)").all()
    return [row.inner_text().split("\t") for row in found]


def listed(view) -> list[str]:
    """The ten films of the picture's text alternative."""
    words = view.locator(".explore-picture svg").get_attribute("aria-label")
    found = re.search(r"Top ten: 1 (.*?)\. Behind ", words)
    assert found, words
    return re.split(r"; \d+ ", found[1])


def signs(value: float, digits: int) -> str:
    """A number as the page writes it: with a sign, unless it is a nought when rounded."""
    text = f"{value:+.{digits}f}".replace("-", "−")
    return text if float(f"{value:.{digits}f}") else text[1:]


def ten(shipped, person, key):
    own = shipped["people"][person]
    order = sorted(zip(own["behind"][key]["places"], own["films"], strict=True))[:10]
    return ["{} ({})".format(*shipped["films"][film]) for _, film in order]


def test_the_table_has_the_librarys_numbers(visit, shipped):
    view, about = visit("people"), shipped["about"]
    behind = [shipped["people"][0]["behind"][f"own-{g}"] for g in range(4)]
    fused, right = torch.empty(4, dtype=torch.float64), []
    for g, one in enumerate(behind):
        ranking = np.mean([1 / np.log2(at + 1) for at in range(one["greater"] + 1, one["greater"] + one["equal"] + 1)])
        similarity = np.exp(one["score"] - one["total"])
        fused[g] = rewards.fused_reward(torch.tensor(ranking), torch.tensor(similarity), about["beta"])
        right.append([f"{ranking:.3f}", f"{similarity:.3f}", f"{fused[g]:.3f}"])
    rules = (advantages.grpo_advantages, 2), (advantages.rloo_advantages, 3)
    signed = [[signs(value, digits) for value in rule(fused[None])[0].tolist()] for rule, digits in rules]
    shown = rows(view)
    assert [row[2:5] for row in shown] == right
    assert [[row[5] for row in shown], [row[6] for row in shown]] == signed


@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_another_text_moves_the_films(visit, shipped, motion):
    view = visit("people", reduced_motion=motion)
    assert listed(view) == ten(shipped, 0, "own-0")
    text = shipped["people"][0]["texts"][0]
    assert text in " ".join(view.locator(".explore-details").inner_text().split())
    before = view.get_by_label("Before the marker", exact=True)
    before.select_option("another person's reasoning")
    view.get_by_label("Whose", exact=True).select_option("person 3's")
    view.wait_for_function("() => document.querySelector('.explore').state().turned === 1")
    assert listed(view) == ten(shipped, 0, "other-2")
    assert shipped["people"][2]["texts"][0] in view.locator(".explore-details").inner_text()
    assert len(rows(view)) == 5
    assert "person 3's reasoning" in view.locator(".explore-say").inner_text()
    view.get_by_label("own reasoning 1", exact=True).check()
    kept = len(set(ten(shipped, 0, "other-2")) & set(ten(shipped, 0, "own-0")))
    assert f"{'all' if kept == 10 else kept} stay" in view.locator(".explore-say").inner_text()
    before.select_option("nothing")
    assert not view.get_by_label("Whose", exact=True).is_visible()
    view.wait_for_function("() => document.querySelector('.explore').state().turned === 1")
    assert listed(view) == ten(shipped, 0, "none")
    view.get_by_role("button", name="Start again").click()
    assert listed(view) == ten(shipped, 0, "own-0")


def test_the_target_is_marked_in_the_ten_and_outside(visit, shipped):
    view = visit("people")
    inside = outside = 0
    for number, person in enumerate(shipped["people"]):
        view.get_by_label("Person", exact=True).select_option(index=number)
        place = person["behind"]["own-0"]["greater"] + 1
        marked = view.locator(".explore-picture text", has_text="◆").all_text_contents()
        assert f"at place {place}" in view.locator(".explore-say").inner_text()
        assert ("◆ The target is among the ten." in marked) is (place <= 10)
        assert len(marked) == (3 if place <= 10 else 2)  # with whom it is the target of
        inside, outside = inside + (place <= 10), outside + (place > 10)
    assert inside
    assert outside


def test_keys_and_a_finger_choose_a_reasoning(visit, shipped):
    view = visit("people", viewport=test_browser.PHONE, has_touch=True)
    bar = view.locator(".explore-picture text", has_text=re.compile("^3: ")).bounding_box()
    view.touchscreen.tap(bar["x"] + bar["width"] / 2, bar["y"] - 20)
    assert listed(view) == ten(shipped, 0, "own-2")
    assert view.locator("tr.chosen td").first.inner_text() == "3"
    person = view.get_by_label("Person", exact=True)
    person.focus()
    view.keyboard.press("ArrowDown")
    assert listed(view) == ten(shipped, 1, "own-2")
    view.keyboard.press("Tab")
    view.keyboard.press("ArrowDown")
    assert listed(view) == ten(shipped, 1, "own-3")
