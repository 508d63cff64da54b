"""Let the shipped model reason about test users drawn by seed, and write what the page *People* shows of them.

python scripts/people.py --set model.dtype=float32   # where bfloat16 is slow; some minutes
python scripts/people.py --profile smoke --page /tmp/there.js --record /tmp/there.json
"""

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from datasets import DatasetDict
from torch import Tensor

from rrec_lib.core.console import say, script
from rrec_lib.core.profiles import Profile, available_profiles, load_profile, parse_overrides
from rrec_lib.core.results import plain, provenance, write_json
from rrec_lib.data.examples import Example, prepare_profile
from rrec_lib.evaluation.evaluate import sample_examples
from rrec_lib.evaluation.metrics import expected_ndcg
from rrec_lib.evaluation.ranks import target_rank, top_k
from rrec_lib.evaluation.reports import data_hash
from rrec_lib.evaluation.scoring import mask_items
from rrec_lib.model.encode import encode
from rrec_lib.model.prompts import encode_users, marker_ids, reasoning_ids, relative_time
from rrec_lib.recommend.controls import GIVEN_TEXTS
from rrec_lib.recommend.films import load_recommender
from rrec_lib.recommend.recommender import ReasoningRecommender, Reasonings
from rrec_lib.training.skills import World, world_of

ROOT = Path(__file__).resolve().parents[1]
PAGE, RECORD = ROOT / "book/_static/explore/people-data.js", ROOT / "results/people.json"
PEOPLE, TEN = 12, 10
OPENING = """// Written by scripts/people.py: twelve test users and what the shipped model makes of them.
// Titles, genres and ratings are MovieLens's: GroupLens' terms hold, see data/movielens-latest-small/README.md.
explore.data.people = """


def draw_people(dataset: DatasetDict, count: int, seed: int) -> list[Example]:
    """Test rows, one a user, drawn by seed and not picked."""
    return sample_examples(list(dataset["test"]), count, 1, seed)


def read_all(
    model: ReasoningRecommender, people: Sequence[Example], written: Sequence[Reasonings], given: dict[str, list[str]]
) -> dict[str, Tensor]:
    """States of everybody behind everything that may stand before the marker.

    Args:
        model: the shipped one.
        people: P examples.
        written: G reasonings of each.
        given: by name, a text for each.

    Returns:
        By name (P, d) states: ``own-0`` and on, ``none``, ``other-0`` and on (the first reasoning of that person), and
        the names of ``given``.
    """
    tokenizer, names = model.policy.tokenizer, ["none", *(f"other-{j}" for j in range(len(people))), *given]
    states: dict[str, Tensor] = {f"own-{g}": one.states for g, one in enumerate(written)}
    rows = []
    for person, prompt in enumerate(encode_users(tokenizer, people, model.items)):
        ends = [marker_ids(tokenizer), *(closed.ids for closed in written[0].closed)]
        ends += [reasoning_ids(tokenizer, texts[person]) for texts in given.values()]
        rows.append(encode(model.policy, [prompt + end for end in ends], description=f"person {person + 1}"))
    return states | dict(zip(names, torch.stack(rows, 1), strict=True))


def shown(dataset: DatasetDict, model: ReasoningRecommender, world: World, count: int, seed: int) -> dict[str, Any]:
    """What the page shows: people, what stands before the marker, and where that puts films.

    Nobody's number is kept, and of the catalogue only films that are shown.
    """
    profile, items = model.profile, model.items
    people = draw_people(dataset, count, seed)
    written = model.sample(people, profile.rollouts.group_size, profile.rollouts.temperature, seed)
    given = {name: [text(example, world) for example in people] for name, text in GIVEN_TEXTS.items()}
    states = read_all(model, people, written, given)
    targets, seen = torch.tensor([e["target"] for e in people]), [e["seen"] for e in people]
    scores = mask_items(model.score_states(torch.stack(list(states.values()), 1)).cpu(), seen, targets)  # (P, S, N)
    places = top_k(scores, len(items)).items.argsort(-1) + 1
    greater, equal = target_rank(scores, targets[:, None].expand(scores.shape[:2]))
    own, total = scores.gather(-1, targets[:, None, None].expand(*scores.shape[:2], 1))[..., 0], scores.logsumexp(-1)
    catalogue: dict[int, int] = {}

    def number(row: int) -> int:
        return catalogue.setdefault(row, len(catalogue))

    def person(i: int, example: Example) -> dict[str, Any]:
        films = sorted({*(places[i] <= TEN).any(0).nonzero()[:, 0].tolist(), example["target"]})
        ago = [relative_time(example["target_timestamp"] - time) for time in example["history_timestamps"]]
        return {
            "history": [
                [number(row), *rest]
                for row, *rest in zip(example["history"], example["history_ratings"], ago, strict=True)
            ],
            "seen": len(set(example["seen"])),
            "target": number(example["target"]),
            "texts": [one.texts[i].strip() for one in written],
            "closed": [one.closed[i].finished for one in written],
            "given": {name: texts[i] for name, texts in given.items()},
            "films": [number(row) for row in films],
            "behind": {
                name: {
                    "greater": int(greater[i, s]),
                    "equal": int(equal[i, s]),
                    "score": round(float(own[i, s]), 5),
                    "total": round(float(total[i, s]), 5),
                    "places": places[i, s, films].tolist(),
                }
                for s, name in enumerate(states)
                if name != f"other-{i}"
            },
        }

    rows = [person(i, example) for i, example in enumerate(people)]
    films = [[items[row]["title"], int(items[row].get("year") or 0), list(items[row]["genres"])] for row in catalogue]
    return {"about": _about(dataset, profile, model.policy.compute_dtype), "films": films, "people": rows}


def _about(dataset: DatasetDict, profile: Profile, dtype: torch.dtype) -> dict[str, Any]:
    """What the numbers rest on."""
    return {
        "profile": profile.name, "dtype": str(dtype).removeprefix("torch."),
        "temperature": profile.rollouts.temperature, "tau": profile.reward.temperature, "k": profile.reward.ndcg_k,
        "beta": profile.reward.beta, "catalogue": len(dataset["items"]), "test_rows": len(dataset["test"]),
        "test_users": len(set(dataset["test"]["user_id"])),
    }  # fmt: skip


def figures(content: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Means over people by what stands before the marker: R_d, R_c, R, and films of ten that ``own-0`` lists too."""
    about, rows = content["about"], []
    for person in content["people"]:
        tens = {
            name: {film for film, place in zip(person["films"], one["places"], strict=True) if place <= TEN}
            for name, one in person["behind"].items()
        }
        for name, one in person["behind"].items():
            ranking = float(expected_ndcg(torch.tensor(one["greater"]), torch.tensor(one["equal"]), about["k"]))
            similarity = math.exp(one["score"] - one["total"])
            reward = about["beta"] * similarity + (1 - about["beta"]) * ranking
            common = math.nan if name == "own-0" else len(tens[name] & tens["own-0"])  # itself: all ten
            rows.append((name.partition("-")[0], ranking, similarity, reward, common))
    means = pd.DataFrame(rows, columns=["behind", "R_d", "R_c", "R", "in common"]).groupby("behind", sort=False).mean()
    return {str(name): row for name, row in means.round(4).to_dict("index").items()}


def write_page(content: dict[str, Any], path: Path) -> None:
    """Write the page's script file."""
    lines = [f"{json.dumps(name)}: {_json(value)}" for name, value in content.items() if name != "people"]
    people = ",\n".join(_json(person) for person in content["people"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(OPENING + "{\n" + ",\n".join([*lines, f'"people": [\n{people}\n]']) + "\n};\n", encoding="utf-8")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def read_page(path: Path = PAGE) -> dict[str, Any]:
    """What :func:`write_page` has written.

    Raises:
        ValueError: if the file is another's.
    """
    text = path.read_text(encoding="utf-8")
    if not text.startswith(OPENING):
        raise ValueError(f"{path} was not written by people.py")
    content: dict[str, Any] = json.loads(text.removeprefix(OPENING).rstrip().rstrip(";"))
    return content


@script
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="cpu", choices=available_profiles())
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="another profile value")
    parser.add_argument("--seed", type=int, default=0, help="of the draw and of sampling (default: 0)")
    parser.add_argument("--people", type=int, default=PEOPLE, help="(default: %(default)s)")
    parser.add_argument("--page", type=Path, default=PAGE, help="script file (default: the book's)")
    parser.add_argument("--record", type=Path, default=RECORD, help="figures (default: results/people.json)")
    chosen = parser.parse_args()
    profile = load_profile(chosen.profile, parse_overrides(chosen.set))
    dataset = prepare_profile(profile)
    recommender = load_recommender(profile, seed=chosen.seed, dataset=dataset)
    content = shown(dataset, recommender.model, world_of(dataset), chosen.people, chosen.seed)
    head = {"weights": recommender.stage, **provenance(chosen.seed), "data": data_hash(dataset), **content["about"]}
    write_page({**content, "about": head}, chosen.page)
    record = {"name": "people", **head, "people": chosen.people, "figures": plain(figures(content), "people")}
    write_json(chosen.record, record)
    say(f"{chosen.people} people are in {chosen.page}, means over them in {chosen.record}")


if __name__ == "__main__":
    main()
