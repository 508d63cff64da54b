"""RecPO's objective: reference values with gradients, autograd, invariants, and what each part must not do."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from rrec_lib.recpo.losses import TOKEN_NORMALIZATIONS, best_trajectory_mask, clipped_gain, item_logprobs, recpo_loss

REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "recpo_loss.json").read_text())
CASES = {case["name"]: case for case in REFERENCE["cases"]}
NAMES = {"trajectory": "traj_mean", "sum": "seq_sum", "batch": "bnpo", "constant": "constant_length"}
EXACT: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-12}


def double(values):
    return torch.tensor(values, dtype=torch.float64)


def arguments(case, **changes):
    """The keyword arguments of ``recpo_loss`` for a reference case; states and log-probs want gradients."""
    inputs = {
        "logprobs": double(case["per_token_logps"]).requires_grad_(),
        "old_logprobs": double(case["old_per_token_logps"]),
        "completion_mask": torch.tensor(case["completion_mask"]),
        "user_states": double(case["user"]).requires_grad_(),
        "item_states": double(case["item"]).requires_grad_(),
        "item_index": torch.tensor(case["in_batch_labels"]),
        "advantages": double(case["advantages"]),
        "group_size": case["G"],
        "best_mask": torch.tensor(case["relabel_mask"]),
        "old_item_logprobs": double(case["old_item_logprob"]),
        "clip_eps": case["eps_low"],
        "clip_eps_high": case["eps_high"],
        "temperature": case["temperature"],
    }
    return {**inputs, **changes}


def gradients(loss, inputs):
    leaves = [inputs[name] for name in ("logprobs", "user_states", "item_states")]
    return torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("normalization", TOKEN_NORMALIZATIONS)
def test_token_term_and_its_gradient_match_the_reference(name, normalization):
    inputs = arguments(CASES[name], token_normalization=normalization)
    expected = CASES[name]["paper"]["token"][NAMES[normalization]]
    loss = recpo_loss(**inputs)
    torch.testing.assert_close(loss.token, double(expected["loss"]), **EXACT)
    logprobs, users, items = gradients(loss.token, inputs)
    torch.testing.assert_close(logprobs, double(expected["grad_logps"]), **EXACT)
    assert not users.any()
    assert not items.any()


@pytest.mark.parametrize("name", CASES)
def test_item_term_and_its_gradients_match_the_reference(name):
    inputs = arguments(CASES[name])
    expected = CASES[name]["paper"]["item"]["mean_over_trajectories"]
    loss = recpo_loss(**inputs)
    torch.testing.assert_close(loss.item, double(expected["loss"]), **EXACT)
    logprobs, users, items = gradients(loss.item, inputs)
    torch.testing.assert_close(users, double(expected["grad_user"]), **EXACT)
    torch.testing.assert_close(items, double(expected["grad_item"]), **EXACT)
    assert not logprobs.any()
    targets = item_logprobs(
        inputs["user_states"], inputs["item_states"], inputs["item_index"], None, inputs["temperature"]
    )
    torch.testing.assert_close(targets, double(CASES[name]["paper"]["target_logprob"]), **EXACT)


@pytest.mark.parametrize("name", CASES)
def test_total_is_the_sum_and_clip_fractions_count_the_reference(name):
    case = CASES[name]
    inputs = arguments(case)
    loss = recpo_loss(**inputs)
    assert loss.total.item() == pytest.approx((loss.token + loss.item).item(), rel=1e-15)
    tokens, winners = int(inputs["completion_mask"].sum()), sum(case["relabel_mask"])
    assert loss.token_clip_fraction.item() * tokens == pytest.approx(
        case["paper"]["token_zero_gradient_by_clip"], abs=1e-4
    )
    assert loss.item_clip_fraction.item() * winners == pytest.approx(
        case["paper"]["item_zero_gradient_by_clip"], abs=1e-4
    )


def test_some_reference_case_does_clip():
    """Negative control: the two comparisons above are not between zeros alone."""
    assert any(case["paper"]["token_zero_gradient_by_clip"] for case in CASES.values())


def test_a_target_that_stands_twice_is_not_its_own_negative():
    case = CASES["duplicate_targets"]
    expected = case["paper_same_target_columns_removed"]
    inputs = arguments(
        case, item_ids=torch.tensor(case["seq_labels"]), old_item_logprobs=double(expected["old_item_logprob"])
    )
    term = expected["item"]["mean_over_trajectories"]
    loss = recpo_loss(**inputs)
    torch.testing.assert_close(loss.item, double(term["loss"]), **EXACT)
    _, users, items = gradients(loss.item, inputs)
    torch.testing.assert_close(users, double(term["grad_user"]), **EXACT)
    torch.testing.assert_close(items, double(term["grad_item"]), **EXACT)
    without = recpo_loss(**{**inputs, "item_ids": None})
    assert abs((without.item - loss.item).item()) > 1e-3


def test_the_official_values_are_not_ours():
    """The official broadcast gives the reasoning tokens no gradient; the paper's objective does."""
    case = CASES["grpo_on_policy_top1"]
    inputs = arguments(case)
    ours = gradients(recpo_loss(**inputs).token, inputs)[0]
    assert double(case["official_float64"]["grad_logps"]).abs().max() < 1e-15 < 1e-3 < ours.abs().max()


def small_problem(seed=0, dtype=torch.float64):
    """B = 3 users, G = 2, T = 4, d = 5, off policy enough for some clipping."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)

    logprobs = -normal(6, 4).abs()
    return {
        "logprobs": logprobs.requires_grad_(),
        "old_logprobs": logprobs.detach() + 0.3 * normal(6, 4),
        "completion_mask": (torch.arange(4) < torch.tensor([4, 3, 2, 1, 4, 2])[:, None]).long(),
        "user_states": normal(6, 5).requires_grad_(),
        "item_states": normal(3, 5).requires_grad_(),
        "item_index": torch.tensor([0, 0, 1, 1, 2, 2]),
        "advantages": double([0.7, -0.7, -1.1, 1.1, 0.4, -0.4]).to(dtype),
        "group_size": 2,
        "temperature": 0.5,
    }


@pytest.mark.parametrize("normalization", TOKEN_NORMALIZATIONS)
def test_gradients_agree_with_finite_differences(normalization):
    inputs = small_problem()
    inputs["old_item_logprobs"] = double([-0.9, -1.0, -1.2, -0.8, -1.5, -1.1])

    def total(logprobs, users, items):
        changed = {**inputs, "logprobs": logprobs, "user_states": users, "item_states": items}
        return recpo_loss(**changed, token_normalization=normalization).total

    leaves = (inputs["logprobs"], inputs["user_states"], inputs["item_states"])
    assert torch.autograd.gradcheck(total, leaves, atol=1e-7)


@pytest.mark.parametrize("normalization", TOKEN_NORMALIZATIONS)
def test_no_advantage_gives_exactly_no_gradient(normalization):
    inputs = small_problem()
    inputs["old_logprobs"] = inputs["old_logprobs"] - 800.0  # ratios beyond float64, which 0 · ∞ would turn into NaN
    loss = recpo_loss(**{**inputs, "advantages": torch.zeros(6).double()}, token_normalization=normalization)
    assert loss.total.item() == 0
    assert all(torch.equal(grad, torch.zeros_like(grad)) for grad in gradients(loss.total, inputs))
    inputs = small_problem()
    assert all(grad.any() for grad in gradients(recpo_loss(**inputs).total, inputs))  # negative control


def test_one_group_without_advantage_leaves_the_others_alone():
    inputs = small_problem()
    inputs["advantages"] = double([0.0, 0.0, -1.1, 1.1, 0.4, -0.4])
    logprobs, users, _ = gradients(recpo_loss(**inputs).total, inputs)
    assert not logprobs[:2].any()
    assert not users[:2].any()
    assert logprobs[2:].any(dim=1).all()
    assert users[3].any()
    assert users[4].any()


def test_on_policy_the_ratio_is_one():
    inputs = {**small_problem(), "old_logprobs": None}
    explicit = {**inputs, "old_logprobs": inputs["logprobs"].detach()}
    loss, same = recpo_loss(**inputs), recpo_loss(**explicit)
    assert torch.equal(loss.total, same.total)
    assert loss.token.item() == pytest.approx(-inputs["advantages"].mean().item(), abs=1e-15)  # 0 by group sums
    assert loss.item.item() == pytest.approx(-(0.7 + 1.1 + 0.4) / 6, rel=1e-12)
    assert loss.token_clip_fraction.item() == loss.item_clip_fraction.item() == 0
    grad = gradients(loss.token, inputs)[0]  # policy gradient: -A / (R · T_m) on each completion token
    mask = inputs["completion_mask"]
    expected = -inputs["advantages"][:, None] * mask / (6 * mask.sum(1, keepdim=True))
    torch.testing.assert_close(grad, expected, **EXACT)


def test_only_the_best_trajectory_trains_the_recommendation():
    inputs = {**small_problem(), "old_logprobs": None}
    users = gradients(recpo_loss(**inputs).item, inputs)[1]
    assert users.any(dim=1).tolist() == [True, False, False, True, True, False]


def test_gradient_flows_into_every_item_state():
    inputs = small_problem()
    assert gradients(recpo_loss(**inputs).item, inputs)[2].any(dim=1).all()


def test_padding_changes_nothing_whatever_stands_there():
    inputs = small_problem()
    plain = recpo_loss(**inputs)
    mask = inputs["completion_mask"].bool()
    for junk in (-123.0, float("-inf"), float("nan")):
        logprobs = torch.where(mask, inputs["logprobs"].detach(), junk).requires_grad_()
        dirty = {**inputs, "logprobs": logprobs, "old_logprobs": torch.where(mask, inputs["old_logprobs"], junk)}
        loss = recpo_loss(**dirty)
        assert torch.equal(loss.total, plain.total)
        assert torch.equal(loss.token_clip_fraction, plain.token_clip_fraction)
        torch.testing.assert_close(gradients(loss.total, dirty)[0], gradients(recpo_loss(**inputs).total, inputs)[0])
    wider = {name: torch.nn.functional.pad(inputs[name], (0, 3)) for name in ("old_logprobs", "completion_mask")}
    padded = {**inputs, **wider, "logprobs": torch.nn.functional.pad(inputs["logprobs"], (0, 3))}
    assert recpo_loss(**padded).total.item() == pytest.approx(plain.total.item(), rel=1e-12)
    # "constant" divides by the padded width, so there padding does count
    narrow, wide = (recpo_loss(**x, token_normalization="constant").token.item() for x in (inputs, padded))
    assert wide == pytest.approx(narrow * 4 / 7, rel=1e-12)


def test_shuffled_rows_give_the_same_loss_when_the_best_mask_travels_with_them():
    inputs = small_problem()
    plain = recpo_loss(**inputs)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    best = best_trajectory_mask(inputs["advantages"], 2)
    rows = {
        name: inputs[name][order]
        for name in ("logprobs", "old_logprobs", "completion_mask", "user_states", "item_index", "advantages")
    }
    shuffled = recpo_loss(**{**inputs, **rows}, best_mask=best[order])
    assert shuffled.total.item() == pytest.approx(plain.total.item(), rel=1e-12)
    forgotten = recpo_loss(**{**inputs, **rows})  # negative control: group order assumed where it is lost
    assert abs(forgotten.item.item() - plain.item.item()) > 1e-3


def test_length_of_states_does_not_matter():
    inputs = small_problem()
    scaled = {**inputs, "user_states": inputs["user_states"] * 9, "item_states": inputs["item_states"] / 3}
    assert recpo_loss(**scaled).total.item() == pytest.approx(recpo_loss(**inputs).total.item(), rel=1e-12)


def test_one_upper_clip_for_both_unless_told():
    inputs = small_problem()
    assert torch.equal(recpo_loss(**inputs).total, recpo_loss(**inputs, clip_eps_high=0.2).total)
    assert not torch.equal(recpo_loss(**inputs).token, recpo_loss(**inputs, clip_eps_high=0.05).token)
    assert torch.equal(recpo_loss(**inputs).total, recpo_loss(**inputs, clip_eps=0.2).total)  # 0.2 is the default
    assert torch.equal(
        recpo_loss(**inputs, clip_eps=0.1).token, recpo_loss(**inputs, clip_eps=0.1, clip_eps_high=0.1).token
    )


def test_default_temperature_and_normalisation():
    inputs = small_problem()
    del inputs["temperature"]
    inputs["old_item_logprobs"] = torch.full((6,), -1.0, dtype=torch.float64)
    default = recpo_loss(**inputs)
    assert torch.equal(default.total, recpo_loss(**inputs, temperature=0.02, token_normalization="trajectory").total)
    assert not torch.equal(default.item, recpo_loss(**inputs, temperature=0.5).item)
    states = (inputs["user_states"], inputs["item_states"], inputs["item_index"])
    assert torch.equal(item_logprobs(*states), item_logprobs(*states, temperature=0.02))


@pytest.mark.parametrize(
    ("ratio", "advantage", "gain", "removed"),
    [
        (1.0, 2.0, 2.0, False),
        (1.5, 2.0, 2.4, True),  # raised enough: no more credit
        (0.5, 2.0, 1.0, False),  # fell although good: full gradient
        (1.5, -2.0, -3.0, False),  # rose although bad: full gradient
        (0.5, -2.0, -1.6, True),
        (1.5, 0.0, 0.0, False),
    ],
)
def test_clip_by_hand(ratio, advantage, gain, removed):
    x = double([ratio]).requires_grad_()
    value, clipped = clipped_gain(x, double([advantage]), 0.2, 0.2)
    assert value.item() == pytest.approx(gain, rel=1e-12, abs=0)
    assert clipped.item() is removed
    slope = torch.autograd.grad(value.sum(), x)[0].item()
    assert slope == (0.0 if removed else advantage)


def test_clip_has_two_sides():
    for ratio, advantage, removed in ((1.25, 1.0, False), (1.35, 1.0, True), (0.85, -1.0, True), (0.95, -1.0, False)):
        assert clipped_gain(double([ratio]), double([advantage]), 0.1, 0.3)[1].item() is removed


def test_best_trajectory_mask_takes_the_first_of_equals():
    mask = best_trajectory_mask(double([0.0, 0.0, 1.0, 1.0, -1.0, -0.5]), 2)
    assert mask.tolist() == [True, False, True, False, False, True]
    assert best_trajectory_mask(torch.zeros(3), 1).tolist() == [True, True, True]
    for size in (4, 0):
        with pytest.raises(ValueError, match=rf"^6 trajectories do not make whole groups of {size}; pass best_mask$"):
            best_trajectory_mask(torch.zeros(6), size)


def test_item_accuracy_by_hand():
    inputs = small_problem()
    inputs["item_states"] = torch.eye(3, dtype=torch.float64)
    inputs["user_states"] = torch.eye(3, dtype=torch.float64)[[0, 1, 1, 1, 0, 2]]
    assert recpo_loss(**inputs).item_accuracy.item() == pytest.approx(4 / 6)
    inputs["item_states"] = torch.ones(3, 3, dtype=torch.float64)  # collapsed: chance, not all
    assert recpo_loss(**inputs).item_accuracy.item() == pytest.approx(1 / 3)


def test_low_precision_is_widened():
    inputs = small_problem(dtype=torch.float32)
    half: dict[str, Any] = {
        name: value.detach().bfloat16() if torch.is_tensor(value) and value.is_floating_point() else value
        for name, value in inputs.items()
    }
    loss = recpo_loss(**half)
    assert loss.total.dtype == torch.float32
    assert loss.total.item() == pytest.approx(recpo_loss(**inputs).total.item(), abs=0.05)
    exact = recpo_loss(**small_problem())
    assert recpo_loss(**inputs).total.item() == pytest.approx(exact.total.item(), abs=1e-6)


def test_empty_batch_of_tokens_is_zero_not_nan():
    inputs = {**small_problem(), "completion_mask": torch.zeros(6, 4)}
    for normalization in TOKEN_NORMALIZATIONS:
        loss = recpo_loss(**inputs, token_normalization=normalization, best_mask=torch.zeros(6, dtype=torch.bool))
        assert loss.total.item() == 0
        assert loss.token_clip_fraction.item() == loss.item_clip_fraction.item() == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("completion_mask", torch.ones(6, 3)),
        ("old_logprobs", torch.zeros(6, 1)),
        ("user_states", torch.ones(5, 5)),
        ("item_index", torch.zeros(5, dtype=torch.long)),
        ("advantages", torch.ones(6, 1)),
        ("best_mask", torch.ones(6, 1)),
        ("old_item_logprobs", torch.ones(6, 1)),
        ("item_ids", torch.ones(4)),
        ("excluded_items", torch.zeros(4, dtype=torch.bool)),
        ("log_q", torch.zeros(2)),
        ("sampling_weights", torch.ones(6, 1)),
    ],
)
def test_shapes_that_broadcasting_would_accept_are_refused(name, value):
    inputs = {**small_problem(), "best_mask": torch.ones(6, dtype=torch.bool), name: value}
    with pytest.raises(ValueError, match=rf"^{name} has shape \(.*\), expected \(.*\) to go with the rest$"):
        recpo_loss(**inputs)


def test_unknown_normalisation_is_refused():
    with pytest.raises(ValueError, match=r"^unknown token_normalization 'mean'; choose one of trajectory, sum, batch"):
        recpo_loss(**small_problem(), token_normalization="mean")


def test_logq_is_subtracted_from_the_logits_by_hand():
    users = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    items = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    log_q = torch.tensor([4.0, 1.0, 0.5], dtype=torch.float64).log()
    weights = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64).exp() / torch.tensor([4.0, 1.0, 0.5])
    index = torch.tensor([0])
    corrected = item_logprobs(users, items, index, temperature=1.0, log_q=log_q)
    torch.testing.assert_close(corrected.exp(), (weights[0] / weights.sum())[None])
    moved = item_logprobs(users, items, index, temperature=1.0, log_q=log_q + 7)  # up to a constant
    torch.testing.assert_close(moved, corrected)
    plain = item_logprobs(users, items, index, temperature=1.0)
    torch.testing.assert_close(item_logprobs(users, items, index, temperature=1.0, log_q=0 * log_q), plain)


def test_excluded_items_are_no_negatives_of_their_trajectory_by_hand():
    users = torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    items = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    excluded = torch.tensor([[False, True, False], [False, False, False]])
    weights = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64).exp()
    found = item_logprobs(users, items, torch.tensor([0, 0]), temperature=1.0, excluded_items=excluded)
    expected = torch.stack([weights[0] / weights[[0, 2]].sum(), weights[0] / weights.sum()])
    torch.testing.assert_close(found.exp().detach(), expected)
    (gradient,) = torch.autograd.grad(found[0], items, retain_graph=True)
    assert gradient[1].abs().sum() == 0
    (gradient,) = torch.autograd.grad(found[1], items)
    assert gradient[1].abs().sum() > 0


def test_excluded_items_enter_the_loss_as_they_enter_the_log_probabilities():
    inputs = {**small_problem(), "temperature": 1.0}
    excluded = torch.zeros(len(inputs["user_states"]), len(inputs["item_states"]), dtype=torch.bool)
    torch.testing.assert_close(recpo_loss(**inputs, excluded_items=excluded).item, recpo_loss(**inputs).item)
    others = torch.arange(len(inputs["item_states"])) != inputs["item_index"][:, None]
    alone = recpo_loss(**inputs, excluded_items=others)
    assert alone.item_accuracy == 1  # nothing is left to be mistaken for
    assert recpo_loss(**inputs).item_accuracy < 1


def test_sampling_weights_multiply_each_tokens_gradient_and_nothing_else():
    inputs = small_problem()
    weights = torch.rand(6, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    weights[2] = 0.0
    plain, weighted = recpo_loss(**inputs), recpo_loss(**inputs, sampling_weights=weights)
    before, after = gradients(plain.token, inputs)[0], gradients(weighted.token, inputs)[0]
    torch.testing.assert_close(after, before * weights, **EXACT)
    assert before[2].any()
    assert not torch.equal(before, after)
    assert weighted.item == plain.item
    assert torch.equal(recpo_loss(**inputs, sampling_weights=torch.ones(6, 4, dtype=torch.float64)).total, plain.total)


def test_a_ratio_at_the_bound_is_not_clipped_and_no_advantage_is_never():
    ratio = torch.tensor([1.25, 0.75, 1.5, 0.5, 0.5, 1.5])
    advantages = torch.tensor([1.0, -1.0, 1.0, -1.0, 0.0, 0.0])
    removed = clipped_gain(ratio, advantages, 0.25, 0.25)[1]
    assert removed.tolist() == [False, False, True, True, False, False]


def test_fractions_and_means_of_a_single_token_and_group():
    old = torch.zeros(2, 1, dtype=torch.float64)
    inputs: dict[str, Any] = {
        "logprobs": torch.tensor([[1.0], [0.0]], dtype=torch.float64),
        "old_logprobs": old,
        "completion_mask": torch.tensor([[1], [0]]),
        "user_states": torch.eye(2, dtype=torch.float64),
        "item_states": torch.eye(2, dtype=torch.float64),
        "item_index": torch.tensor([0, 1]),
        "advantages": torch.tensor([1.0, -1.0], dtype=torch.float64),
        "group_size": 2,
        "old_item_logprobs": torch.full((2,), -5.0, dtype=torch.float64),
    }
    loss = recpo_loss(**inputs, token_normalization="batch")
    assert (loss.token_clip_fraction, loss.item_clip_fraction) == (1.0, 1.0)
    assert loss.token == pytest.approx(-1.2)  # one token, whose gain is 1 + ε


def test_old_values_of_a_trajectory_that_teaches_nothing_may_be_anything():
    case = next(iter(CASES.values()))
    rows = len(case["advantages"])
    unknown = torch.full((rows,), float("nan"), dtype=torch.float64)
    inputs = arguments(case, advantages=torch.zeros(rows, dtype=torch.float64), old_item_logprobs=unknown)
    loss = recpo_loss(**inputs)
    assert loss.total == 0
    assert all((gradient == 0).all() for gradient in gradients(loss.total, inputs))
