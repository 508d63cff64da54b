"""The page's people: drawn by seed, nobody's number kept, and what the library computes of them."""

import importlib
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rrec_lib.core.profiles import load_profile
from rrec_lib.core.results import read_recorded
from rrec_lib.data.examples import prepare_profile
from rrec_lib.evaluation.reports import data_hash
from rrec_lib.evaluation.scoring import mask_items
from rrec_lib.model.encode import encode
from rrec_lib.model.prompts import encode_items, encode_users, marker_ids
from rrec_lib.recommend.controls import GIVEN_TEXTS
from rrec_lib.recommend.films import load_recommender
from rrec_lib.recpo.rewards import ranking_reward, similarity_reward
from rrec_lib.training.skills import world_of
from rrec_lib.training.stages import load_stage

COUNT = 3


@pytest.fixture(scope="module")
def script():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "scripts"))
        yield importlib.import_module("people")


@pytest.fixture(scope="module")
def model(smoke_profile, smoke_dataset):
    found = load_recommender(smoke_profile, dataset=smoke_dataset).model
    found.world = world_of(smoke_dataset)
    return found


@pytest.fixture(scope="module")
def content(script, model, smoke_dataset):
    return script.shown(smoke_dataset, model, model.world, COUNT, 0)


def test_places_and_rewards_are_the_librarys(script, model, content, smoke_dataset):
    people, rollouts = script.draw_people(smoke_dataset, COUNT, 0), model.profile.rollouts
    written = model.sample(people, rollouts.group_size, rollouts.temperature, 0)
    targets, seen = torch.tensor([e["target"] for e in people]), [e["seen"] for e in people]
    names = {"none": ["none"] * COUNT, "other": [f"other-{(i + 1) % COUNT}" for i in range(COUNT)]}
    names |= {name: [name] * COUNT for name in GIVEN_TEXTS}
    states = {name: model.states(people, name, written[0]) for name in names}
    for g, one in enumerate(written):
        names[f"own-{g}"], states[f"own-{g}"] = [f"own-{g}"] * COUNT, one.states
    catalogue = [f"{item['title']} ({item['year']})" for item in model.items]
    for name, keys in names.items():
        scores = mask_items(model.score_states(states[name])[:, None], seen, targets)
        ranking = ranking_reward(scores, targets, content["about"]["k"])[:, 0].tolist()
        similarity = similarity_reward(scores, targets)[:, 0].tolist()
        for i, person in enumerate(content["people"]):
            found = person["behind"][keys[i]]
            assert found["equal"] == 1
            assert 1 / math.log2(found["greater"] + 2) == pytest.approx(ranking[i], abs=1e-6)
            assert math.exp(found["score"] - found["total"]) == pytest.approx(similarity[i], abs=2e-6)
            order = scores[i, 0].argsort(descending=True).tolist()
            ten = [catalogue[row] for row in order[: script.TEN]]
            films = ["{} ({})".format(*content["films"][film]) for film in person["films"]]
            places = dict(zip(found["places"], films, strict=True))
            assert [places[at] for at in range(1, script.TEN + 1)] == ten
            assert len(places) == len(films)
            assert found["greater"] + 1 == found["places"][person["films"].index(person["target"])]


def test_what_is_written_is_read_again_and_names_nobody(script, content, smoke_dataset, tmp_path):
    path = tmp_path / "there" / "people-data.js"
    script.write_page(content, path)
    assert script.read_page(path) == content
    rows = zip(content["people"], script.draw_people(smoke_dataset, COUNT, 0), strict=True)
    for number, (person, example) in enumerate(rows):
        assert set(person) == {"history", "seen", "target", "texts", "closed", "given", "films", "behind"}
        assert f"other-{number}" not in person["behind"]
        assert [rating for _, rating, _ in person["history"]] == example["history_ratings"]
        assert person["seen"] == len(set(example["seen"]))
    assert content["about"]["test_rows"] == len(smoke_dataset["test"])
    path.write_text("var other = {};", encoding="utf-8")
    with pytest.raises(ValueError, match="not written by people"):
        script.read_page(path)


def test_means_are_over_people(script):
    def behind(greater, places):
        return {"greater": greater, "equal": 1, "score": 0.0, "total": math.log(4), "places": places}

    same, other = [1, 11], [11, 1]
    people = [
        {"films": [5, 7], "behind": {"own-0": behind(0, same), "own-1": behind(2, other), "none": behind(1, same)}},
        {"films": [5, 8], "behind": {"own-0": behind(0, same), "own-1": behind(2, same), "none": behind(1, other)}},
    ]
    found = script.figures({"about": {"k": 1000, "beta": 0.5}, "people": people})
    assert found["own"] == {"R_d": 0.75, "R_c": 0.25, "R": 0.5, "in common": 0.5}
    assert found["none"] == {"R_d": 0.6309, "R_c": 0.25, "R": 0.4405, "in common": 0.5}


# ---- the shipped file


@pytest.fixture(scope="module")
def shipped(script):
    return script.read_page()


@pytest.fixture(scope="module")
def profile():
    found = load_profile("cpu")
    return replace(found, model=replace(found.model, dtype="float32"))


@pytest.fixture(scope="module")
def dataset(profile):
    return prepare_profile(profile)


def test_the_shipped_people_are_those_of_the_draw(script, shipped, dataset):
    about, world = shipped["about"], world_of(dataset)
    people = script.draw_people(dataset, script.PEOPLE, about["seed"])
    name = lambda row: [world.items[row]["title"], world.items[row]["year"], world.items[row]["genres"]]  # noqa: E731
    assert (about["data"], about["weights"]) == (data_hash(dataset), "recpo")
    for person, example in zip(shipped["people"], people, strict=True):
        assert [shipped["films"][film] for film, *_ in person["history"]] == [name(row) for row in example["history"]]
        assert [rating for _, rating, _ in person["history"]] == example["history_ratings"]
        assert shipped["films"][person["target"]] == name(example["target"])
        assert person["given"] == {key: text(example, world) for key, text in GIVEN_TEXTS.items()}
        assert len(person["texts"]) == 4
    assert script.PAGE.stat().st_size < 300_000
    record = read_recorded("results/people.json")
    assert record["figures"] == script.figures(shipped)
    assert {key: record[key] for key in about} == about
    assert json.dumps(shipped).count("user_id") == 0


def test_the_shipped_scores_are_the_shipped_models(script, shipped, profile, dataset):
    people, items = script.draw_people(dataset, 2, shipped["about"]["seed"]), list(dataset["items"])
    policy = load_stage(profile, dataset, "recpo")
    prompts, marker = encode_users(policy.tokenizer, people, items), marker_ids(policy.tokenizer)
    users = encode(policy, [prompt + marker for prompt in prompts])
    films = encode(policy, encode_items(policy.tokenizer, [items[example["target"]] for example in people]))
    scores = torch.nn.functional.cosine_similarity(users, films) / shipped["about"]["tau"]
    kept = torch.tensor([person["behind"]["none"]["score"] for person in shipped["people"][:2]])
    assert torch.allclose(scores, kept, atol=2e-3)
    assert not torch.allclose(scores.roll(1), kept, atol=0.1)


def test_the_notebook_says_what_the_run_found(script):
    notebook = json.loads((script.ROOT / "notebooks" / "07_evaluation.ipynb").read_text(encoding="utf-8"))
    [cell] = ["".join(c["source"]) for c in notebook["cells"] if 'data-explore="people"' in "".join(c["source"])]
    found = {kind: f"{row['in common']:.1f}" for kind, row in read_recorded("results/people.json")["figures"].items()}
    said = (
        f"{found['other']} stay on average behind another person's, {found['own']} behind another of their own, "
        f"{found['none']} behind nothing"
    )
    assert said in " ".join(cell.split())
