"""The explorables, opened from a folder in headless Chromium: they show the library's numbers, and can be used."""

import os
from typing import Any
from unittest import mock

import explorables
import numpy as np
import pytest
import stage
import torch
from browser import test_browser  # tests/ is on the path

from rrec_lib.book import official
from rrec_lib.book.toy import toy_world
from rrec_lib.evaluation import intervals, scoring
from rrec_lib.evaluation.ranks import target_rank
from rrec_lib.experiments.reference import ARMS, METRIC, WITH, reference_arms
from rrec_lib.recpo import advantages, losses, rewards

pytestmark = pytest.mark.browser
browser = test_browser.browser
STATES = 1000
CLOSE: dict[str, Any] = {"rtol": 0, "atol": 1e-6}


def embedded(name: str) -> str:
    """A page that embeds one, as the rendered book does."""
    cell = f'<div class="explore" data-explore="{name}">\n\nThe sentence.\n\n</div>'
    body = stage.with_explorable(cell, "a test", stage.EXPLORE.as_uri())
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>t</title>'
    return f'<!doctype html><html lang="en" data-theme="light"><head>{head}</head><body>{body}</body></html>'


@pytest.fixture(scope="module")
def page(browser):
    """An empty page with all scripts."""
    view = browser.new_page()
    explorables.load(view, explorables.STILLS)
    return view


def call(page, name: str, function: str, cases):
    """Results of an explorable's function for a list of argument lists."""
    code = "([name, f, cases]) => cases.map(given => explore.parts[name].functions[f](...given))"
    return page.evaluate(code, [name, function, cases])


@pytest.fixture
def visit(browser, tmp_path):
    """A function that opens an embedded explorable; afterwards nothing may have gone wrong."""
    contexts, watched = [], []

    def open_page(name: str, **options):
        context = browser.new_context(**{"viewport": test_browser.DESKTOP, "reduced_motion": "reduce", **options})
        context.set_default_timeout(test_browser.PATIENCE)
        contexts.append(context)
        view = context.new_page()
        watched.append(test_browser.watch(view, "file://"))
        path = tmp_path / f"{name}.html"
        path.write_text(embedded(name), encoding="utf-8")
        view.goto(path.as_uri())
        return view

    yield open_page
    for context in contexts:
        context.close()
    assert [problem for problems in watched for problem in problems] == []


# ---- numbers


def test_scores_rewards_and_advantages_are_the_librarys(page):
    rng = np.random.default_rng(0)
    cases, ties, equal = [], 0, 0
    for case in range(STATES):
        sizes = (rng.integers(2, 5), 2), (rng.integers(2, 8), 2)
        whole = case % 2 == 0  # few directions, so that scores tie
        states, items = (rng.integers(-2, 3, size) if whole else rng.normal(size=size) for size in sizes)
        seen = rng.choice(len(items), rng.integers(0, len(items)), replace=False)
        target, k = int(rng.integers(len(items))), int(rng.integers(1, 9))
        cases.append([states.tolist(), items.tolist(), seen.tolist(), target, rng.uniform(0.05, 2), k, rng.uniform()])
    for found, (states, items, seen, target, tau, k, beta) in zip(
        call(page, "drag", "group", cases), cases, strict=True
    ):
        arrays = [torch.tensor(values, dtype=torch.float64) for values in (states, items)]
        wanted = torch.tensor([target])
        scores = scoring.mask_items(scoring.score_items(arrays[0][None], arrays[1], tau), [seen], wanted)
        scores = scores.round(decimals=9)  # the page counts what differs by rounding alone as a tie
        r_d, r_c = rewards.ranking_reward(scores, wanted, k), rewards.similarity_reward(scores, wanted)
        fused = rewards.fused_reward(r_d, r_c, beta)
        greater, same = target_rank(scores[0], wanted.expand(len(states)))
        assert found["ranks"] == torch.stack([greater, same], 1).tolist()
        np.testing.assert_allclose(found["scores"], scores[0], **CLOSE)
        for key, values in {"ranking": r_d, "similarity": r_c, "fused": fused}.items():
            np.testing.assert_allclose(found[key], values[0], **CLOSE)
        np.testing.assert_allclose(found["grpo"], advantages.grpo_advantages(fused)[0], **CLOSE)
        np.testing.assert_allclose(found["rloo"], advantages.rloo_advantages(fused)[0], **CLOSE)
        ties += int((same > 1).sum())
        equal += bool((fused == fused[:, :1]).all())
    assert ties > 200
    assert equal > 20
    masked = [float("-inf"), 1.0]
    assert call(page, "drag", "rankingReward", [[masked, 0, 5]]) == [0]
    assert call(page, "drag", "similarityReward", [[masked, 0]]) == [0]


def test_the_clip_is_the_librarys_at_its_edges_too(page):
    rng = np.random.default_rng(1)
    ratio, gain = rng.uniform(0, 2, STATES), rng.normal(size=STATES)
    low, high = rng.uniform(0, 0.9, (2, STATES))
    ratio[:100], ratio[100:200], gain[200:300], gain[:50] = 1 - low[:100], 1 + high[100:200], 0, 0
    found = call(page, "clip", "clippedGain", np.stack([ratio, gain, low, high], 1).tolist())
    leaf, columns = torch.tensor(ratio, requires_grad=True), [torch.tensor(x) for x in (gain, low, high)]
    wanted = [losses.clipped_gain(*case) for case in zip(leaf, *columns, strict=True)]
    (slope,) = torch.autograd.grad(torch.stack([value for value, _ in wanted]).sum(), leaf)
    np.testing.assert_allclose([value for value, _, _ in found], [value.item() for value, _ in wanted], **CLOSE)
    np.testing.assert_allclose([grad for _, grad, _ in found], slope, **CLOSE)
    assert [cut for _, _, cut in found] == [bool(cut) for _, cut in wanted]
    assert 100 < sum(cut for _, _, cut in found) < 700


def test_the_token_gradients_are_those_of_both_losses(page):
    rng = np.random.default_rng(2)
    rules = {
        "rloo": advantages.rloo_advantages,
        "grpo": advantages.grpo_advantages,
        "left": official.leave_one_out_advantages,
    }
    drawn = []
    for _ in range(STATES):
        values = rng.integers(0, 3, 6) / 2 if rng.random() < 0.3 else rng.random(6)
        drawn.append((values, str(rng.choice(list(rules))), int(rng.choice([2, 3, 6]))))
    found = call(page, "axis", "inGroups", [[values.tolist(), rule, 2] for values, rule, _ in drawn])
    wanted = [rules[rule](torch.tensor(values).reshape(3, 2)).flatten() for values, rule, _ in drawn]
    np.testing.assert_allclose(found, torch.stack(wanted), **CLOSE)
    lengths = rng.integers(1, 5, (STATES, 6))
    for extra in (False, True):
        cases = [
            [adv.tolist(), own.tolist(), 4, extra, size]
            for adv, own, (_, _, size) in zip(wanted, lengths, drawn, strict=True)
        ]
        grids = call(page, "axis", "tokenGradient", cases)
        for grid, adv, own, (_, _, size) in zip(grids, wanted, lengths, drawn, strict=True):
            mask = torch.arange(4) < torch.tensor(own)[:, None]
            leaf = torch.full((6, 4), -0.7, dtype=torch.float64, requires_grad=True)
            total = torch.zeros((), dtype=torch.float64)
            for part in (slice(first, first + size) for first in range(0, 6, size)):
                total = total + _token_loss(leaf[part], mask[part], adv[part], extra)
            np.testing.assert_allclose(grid, torch.autograd.grad(total, leaf)[0], **CLOSE)


def _token_loss(logprobs, mask, adv, extra):
    if not extra:
        return losses.token_loss(logprobs, None, mask, adv, normalization="batch")[0]
    rows = torch.ones(len(adv), 2, dtype=torch.float64)
    none = torch.zeros(len(adv))
    return official.batch_loss(logprobs, mask, adv, none, rows, rows[:1], none.long()).token


def test_the_interval_is_the_librarys_for_the_same_draws(page):
    rng = np.random.default_rng(3)
    cases = []
    for _ in range(STATES):
        counts, digits = rng.integers(1, 6, rng.integers(2, 12)), int(rng.integers(0, 3))
        rows = [rng.random(count).round(digits).tolist() for count in counts]
        cases.append([rows, rng.integers(0, len(rows), (20, len(rows))).tolist(), float(rng.choice([0.5, 0.9, 0.95]))])
    for found, (rows, draws, level) in zip(call(page, "interval", "interval", cases), cases, strict=True):
        owners = np.repeat(np.arange(len(rows)), [len(own) for own in rows])
        given = mock.Mock(integers=mock.Mock(return_value=np.array(draws)))
        with mock.patch.object(intervals.np.random, "default_rng", return_value=given):
            wanted = intervals.bootstrap_mean_interval(np.concatenate(rows), owners, len(draws), 0, level)
        np.testing.assert_allclose(found, [wanted.mean, wanted.low, wanted.high], **CLOSE)


def test_the_recorded_interval_comes_out_of_the_pages_own_draws(page):
    report = reference_arms(explorables.PLACE)[WITH][0]
    code = """name => { const { interval, drawUsers, equalUsers } = explore.parts.interval.functions;
        const rows = explore.data.interval.values[name], counts = rows.map(own => own.length);
        return [...interval(rows, drawUsers(rows.length, 1000, 1)), equalUsers(counts)]; }"""
    mean, low, high, equal = page.evaluate(code, ARMS[WITH])
    wanted, counts = report.interval(METRIC), np.unique(report.users, return_counts=True)[1]
    assert abs(mean - wanted.mean) < 1e-5  # the file rounds
    assert abs(low - wanted.low) < 0.002
    assert abs(high - wanted.high) < 0.002
    assert equal == pytest.approx(counts.sum() ** 2 / (counts**2).sum())


def test_the_worlds_are_the_toy_world(page):
    world = toy_world()
    state = page.evaluate("() => explore.parts.drag.functions.WORLD")
    assert state["ITEMS"] == list(world.items)
    assert state["ITEM_STATES"] == world.item_states.tolist()
    assert state["USER_STATES"] == world.user_states.tolist()
    assert state["HISTORIES"] == [list(seen) for seen in world.histories]
    assert state["TARGETS"] == world.targets.tolist()
    scores = scoring.score_items(world.user_states, world.item_states, world.temperature)
    scores = scoring.mask_items(scores, world.histories, world.targets)
    fused = rewards.fused_reward(
        rewards.ranking_reward(scores, world.targets), rewards.similarity_reward(scores, world.targets)
    )
    np.testing.assert_allclose(
        page.evaluate("() => explore.parts.axis.functions.REWARDS"), fused.flatten(), rtol=0, atol=5e-4
    )


# ---- files


def test_still_pictures_are_what_the_scripts_draw(page):
    for name in explorables.STILLS:
        drawn = (stage.EXPLORE / f"{name}.svg").read_text(encoding="utf-8")
        assert explorables.still(page, name) == drawn, f"{name}.svg is old: run `python tools/explorables.py`"


# ---- readers


def centre(view, handle: str) -> tuple[float, float]:
    box = view.locator(f'[data-handle="{handle}"]').bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_a_state_is_dragged_and_the_table_follows(visit):
    view = visit("drag")
    x, y = centre(view, "state-0")
    assert "(1.00, 0.00)" in view.locator(".explore-say").inner_text()
    view.mouse.move(x, y)
    view.mouse.down()
    view.mouse.move(x + 30, y - 40, steps=3)
    view.mouse.move(x - 90, y - 120, steps=3)
    view.mouse.up()
    states = view.evaluate("() => document.querySelector('.explore').state().states.slice(0, 3)")
    assert states[0] != [1, 0]
    world = toy_world()
    group = torch.tensor(states, dtype=torch.float64)[None]
    scores = scoring.mask_items(scoring.score_items(group, world.item_states), world.histories[:1], world.targets[:1])
    fused = rewards.fused_reward(
        rewards.ranking_reward(scores, world.targets[:1]), rewards.similarity_reward(scores, world.targets[:1])
    )
    shown = [row.inner_text().split("\t")[4] for row in view.locator("tbody tr").all()]
    assert shown == [f"{reward:.3f}" for reward in fused[0].tolist()]


def test_keys_move_a_state_to_a_tie_and_typing_sets_a_knob(visit):
    view = visit("drag")
    view.locator('[data-handle="state-1"]').focus()
    for _ in range(4):
        view.keyboard.press("ArrowDown")  # from courtroom to the origin, where every item scores 0
    assert "ties for places 1 to 5" in view.locator(".explore-say").inner_text()
    before = view.locator("tbody").inner_text()
    field = view.get_by_label("τ, temperature, typed")
    field.fill("0.5")
    assert view.locator("tbody").inner_text() != before
    assert view.get_by_label("τ, temperature", exact=True).input_value() == "0.5"
    field.fill("77")  # outside: left alone
    field.blur()
    assert field.input_value() == "0.5"
    view.get_by_role("button", name="Start again").click()
    assert view.locator("tbody").inner_text().count("\n") == before.count("\n")
    assert field.input_value() == "1"


def test_the_clip_cuts_where_a_key_passes_its_edge(visit):
    view = visit("clip")
    said = view.locator(".explore-say")
    view.locator('[data-handle="ratio"]').focus()
    for _ in range(10):
        view.keyboard.press("ArrowRight")
    assert "The gradient passes" in said.inner_text()
    view.keyboard.press("ArrowRight")
    assert "gradient 0.00" in said.inner_text()
    assert "cut" in said.inner_text()
    view.get_by_label("A, advantage, typed").fill("-1")
    assert "pulls it back" in said.inner_text()


@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_the_axis_takes_every_tokens_gradient(visit, motion):
    view = visit("axis", reduced_motion=motion)
    cells = """() => [...document.querySelectorAll('.explore-picture text')].map(t => t.textContent)
        .filter(t => /\\.\\d{3}$/.test(t))"""
    assert "0.000" not in view.evaluate(cells)
    view.get_by_role("checkbox").check()
    view.wait_for_function(f"() => ({cells})().every(t => t === '0.000')")
    assert len(view.evaluate(cells)) == 17
    assert "nothing is left" in view.locator(".explore-say").inner_text()
    view.get_by_role("radio", name="3 + 3").check()
    assert "same push" in view.locator(".explore-say").inner_text()


def test_a_finger_chooses_a_cell(visit):
    view = visit("axis", viewport=test_browser.PHONE, has_touch=True)
    box = view.locator("svg").bounding_box()
    view.touchscreen.tap(box["x"] + box["width"] * 0.7, box["y"] + 34 + 46 * 4.5)
    assert "Token 3 of user 3's reasoning 1" in view.locator(".explore-say").inner_text()


def test_a_cap_on_busy_users_and_a_difference_are_drawn(visit):
    view = visit("interval")
    said = view.locator(".explore-say")
    assert "2,546 rows" in said.inner_text()
    view.get_by_label("rows per user ≤, typed").fill("1")
    assert "104 rows" in said.inner_text()
    assert "weigh like 104 equally busy" in said.inner_text()
    view.get_by_label("minus").select_option("popularity")
    assert f"{ARMS[WITH]} minus popularity" in said.inner_text()
    view.get_by_role("button", name="Draw from the start").click()
    assert "One draw is no interval yet." in said.inner_text()
    assert "NaN" not in said.inner_text()
    view.get_by_role("button", name="Draw once more").click()
    assert "Means of 2 draws" in view.locator("svg").inner_html()
    view.get_by_role("button", name="Draw 1,000").click()
    view.wait_for_function("() => document.querySelector('svg').innerHTML.includes('Means of 1,000 draws')")


@pytest.mark.parametrize("name", explorables.STILLS)
def test_themes_a_phone_and_no_scripts(visit, name):
    view = visit(name, viewport=test_browser.PHONE)
    assert "The sentence." in view.locator(".explore").inner_text()
    assert not view.locator("img").is_visible()
    wide = "() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    assert view.evaluate(wide)[0] <= view.evaluate(wide)[1] + 1
    inside = """() => { const box = document.querySelector('.explore-picture').getBoundingClientRect();
        return [...document.querySelectorAll('.explore-picture text, .explore-controls :not(option)')].filter(t => {
            const own = t.getBoundingClientRect(); // a hidden one has no width
            return own.width && (own.right > box.right + 2 || own.left < box.left - 2);
        }).map(t => t.textContent || t.tagName); }"""
    assert view.evaluate(inside) == []
    table = "() => { const d = document.querySelector('.explore-details'); return d.scrollWidth - d.clientWidth; }"
    assert view.evaluate(table) <= 1
    colour = """() => { const blue = document.querySelector('.explore-picture :is(.s-blue, .blue)');
        const style = getComputedStyle(blue); return style.stroke + style.fill; }"""
    light = view.evaluate(colour)
    view.evaluate("() => (document.documentElement.dataset.theme = 'dark')")
    assert view.evaluate(colour) != light
    assert len(view.locator(".explore-picture svg").get_attribute("aria-label")) > 40
    off = visit(name, java_script_enabled=False)
    assert off.locator("img").is_visible()
    assert len(off.locator("img").get_attribute("alt")) > 40
    assert "The sentence." in off.locator(".explore").inner_text()


def pages_with_explorables() -> list[str]:
    pages = [path for path in test_browser.PAGES if "data-explore=" in (test_browser.HTML / path).read_text("utf-8")]
    if not pages:
        test_browser.give_up("there is no rendered book with explorables: run `make book` first")
    return pages


def test_rendered_pages_bring_their_explorables_to_life(browser):
    view = browser.new_page()
    problems, names = test_browser.watch(view, "file://"), []
    for path in pages_with_explorables():
        view.goto((test_browser.HTML / path).as_uri())
        count = view.locator("[data-explore]").count()
        pictures = view.locator("[data-explore].live .explore-picture svg[aria-label]")
        assert pictures.count() == count > 0, path
        assert all(len(picture.get_attribute("aria-label")) > 40 for picture in pictures.all()), path
        names += view.locator("[data-explore]").evaluate_all("all => all.map(one => one.dataset.explore)")
    assert sorted(names) == sorted(explorables.STILLS)
    assert problems == []
    view.close()


READY = """let seen = 0; new MutationObserver(() => {
    const all = [...document.querySelectorAll("[data-explore]")];
    if (all.length === seen || !all.every(one => one.classList.contains("live"))) return;
    [seen, globalThis.readyAt] = [all.length, performance.now()];
}).observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ["class"] })"""


def test_explorables_are_ready_within_a_second(browser):
    """On two idle cores; the best of three loads counts, and a machine with other work gets its share more of time."""
    view, busy = browser.new_page(), 1 + os.getloadavg()[0] / (os.cpu_count() or 1)
    view.set_default_timeout(test_browser.PATIENCE)
    view.add_init_script(READY)
    for path in pages_with_explorables():
        took = []
        for _ in range(3):
            view.goto((test_browser.HTML / path).as_uri())
            view.wait_for_function("() => document.readyState === 'complete'")
            took.append(view.evaluate("() => globalThis.readyAt"))
        assert 0 < min(took) < 1000 * busy, (
            f"{path}: {[round(ms) for ms in took]} ms on a machine {busy:.1f} times busy"
        )
    view.close()
