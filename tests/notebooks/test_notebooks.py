"""Every notebook: its form as stored, a run on the smoke profile, and what that run records."""

from typing import Any
import json
import math
import re
from pathlib import Path
from types import SimpleNamespace

import execute
import exercise_cells
import pytest
import setup_cell
import stage
from fresh_process import run_notebook

ROOT = Path(__file__).resolve().parent.parent.parent
NAMES = execute.notebook_names(ROOT)
PARAMETERS = 'profile = "cpu"\nseed = 0\noverrides = {}\nkeep = None  # or a folder that outlives this session'
IMPORTS = "06_gpu_training"  # the one that imports most does it itself, as a reader's does, so that a warning would be seen
DIRECTIVE = re.compile(r"^(```|:::+)\s*\{|\{(ref|doc|cite|cite:\w|term|eq|numref)\}`", re.MULTILINE)


def read(name: str) -> dict:
    return json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))


def source(cell: dict) -> str:
    return "".join(cell["source"])


def tagged(notebook: dict, tag: str) -> list[dict]:
    return [cell for cell in notebook["cells"] if tag in cell["metadata"].get("tags", [])]


def test_the_notebooks_are_there_one_per_number():
    numbers = [name[:2] for name in exercise_cells.chapter_names()]
    assert numbers == ["01", "02", "03", "04", "05", "06", "07", "08", "09", "10"]


@pytest.mark.parametrize("name", NAMES)
class TestForm:
    def test_format_and_kernel(self, name):
        notebook = read(name)
        assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
        assert notebook["metadata"]["kernelspec"]["name"] == "python3"
        assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])

    def test_no_outputs_are_stored(self, name):
        code = [cell for cell in read(name)["cells"] if cell["cell_type"] == "code"]
        assert not [cell for cell in code if cell["outputs"] or cell["execution_count"] is not None]

    def test_one_parameters_cell(self, name):
        assert [source(cell).strip() for cell in tagged(read(name), "parameters")] == [PARAMETERS]

    def test_one_set_up_cell_the_same_everywhere(self, name):
        assert [source(cell).strip() for cell in tagged(read(name), "setup")] == [setup_cell.source(ROOT)]

    def test_no_level_of_headings_is_left_out(self, name):
        texts = [source(cell) for cell in read(name)["cells"] if cell["cell_type"] == "markdown"]
        levels = [
            len(mark)
            for text in texts
            for mark in re.findall(r"^(#+) ", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.M)
        ]
        assert levels[0] == 1
        assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))

    def test_sizes(self, name):
        notebook = read(name)
        counted = [cell for cell in notebook["cells"] if "data-explore=" not in source(cell)]
        assert len(counted) <= (49 if name.endswith("_exercises") else 40)
        for number, cell in enumerate(notebook["cells"], 1):
            lines = source(cell).splitlines()
            if cell["cell_type"] == "code":
                assert len(lines) <= 25, f"cell {number} has {len(lines)} lines"
            wide = [line for line in lines if len(line) > 79 and "https://" not in line and not line.startswith("|")]
            assert wide == [], f"cell {number} has lines over 79 columns"

    def test_colab_link_names_this_notebook(self, name):
        slug = setup_cell.repository(ROOT).removeprefix("https://github.com/")
        expected = f"https://colab.research.google.com/github/{slug}/blob/main/notebooks/{name}.ipynb"
        links = re.findall(r"https://colab\.research\.google\.com/[^)\s\"]+", source(read(name)["cells"][0]))
        assert links == [expected]

    def test_no_directives_that_colab_shows_raw(self, name):
        prose = [source(cell) for cell in read(name)["cells"] if cell["cell_type"] == "markdown"]
        assert [text for text in prose if DIRECTIVE.search(text)] == []


def test_the_directive_check_sees_directives():
    for text in ("```{note}\nx\n```", ":::{tip}\nx\n:::", "see {ref}`x`", "{cite:p}`x`"):
        assert DIRECTIVE.search(text)
    assert not DIRECTIVE.search("```python\n{'a': 1}\n```\n\nthe set {1, 2} and `{x}`")


def probability_after_updates(clips: bool) -> float:
    """Of a word with advantage 1 and old probability 1/2, after 12 steps of 0.1 on two logits."""
    probability = 0.5
    difference = 0.0
    for _ in range(12):
        ratio = probability / 0.5
        gain = (0 if ratio > 1.2 else ratio) if clips else 1
        difference += 2 * 0.1 * gain * (1 - probability)
        probability = 1 / (1 + math.exp(-difference))
    return probability


# What a run must record: by pencil from the toy world where a fraction stands, else as first measured.
ADVANTAGES = [0.550396, -0.550396, 0.485415, -0.485415, 0.419061, -0.419061]  # differences of two rewards
RECORDED: dict[str, dict[str, Any]] = {
    "01_quickstart": {"stage": "base", "films": 60, "top": 20, "finished": 0},  # random weights never close a marker
    "02_data_preparation": {
        "rows": {"train": 694, "valid": 87, "test": 87, "items": 60},  # 868 rows, 8 : 1 : 1
        "catalogue": "df3dff5f766cb92d",
        "gain_over_only_the_past.popularity, only the past": 0,
        "ndcg_temporal.popularity": 0.193930,
        "ndcg_temporal.co-occurrence": 0.258457,
    },
    "03_model_architecture": {"films": 8, "largest_difference.by_hand": 0, "largest_difference.padding": 0},
    "04_policy_gradients": {
        "expected_reward": 1 / 3,
        "gradient": [1 / 9, 1 / 18, -1 / 6],
        "best_baseline": 16 / 33,
        # squared lengths of the directions: 19/18, 13/18, 7/18; |∇J|² = 7/162
        "variance.b = 0": 17 / 72 - 7 / 162,
        "variance.b = J": 23 / 216 - 7 / 162,
        "groups": 3**4,
        "of_groups.none": (17 / 72 - 7 / 162) / 4,
        "side_by_side.RLOO.length / |∇J|": 1,
        "side_by_side.RLOO.all A = 0": (1 + 2**4 + 3**4) / 6**4,
        "side_by_side.GRPO.cosine": 0.991054,
        "chance_of_robots.no clip": 0.047750,
    },
    "05_recpo_reward_design": {
        "toy_r_d": [[1, 1 / math.log2(5)], [1, 1 / 2], [1, (1 / math.log2(3) + 1 / 2) / 2]],  # ranks 1 4, 1 3, 1 2-or-3
        "toy_r_c": [[0.373141, 0.182367], [0.301227, 0.092918], [0.347795, 0.222744]],
        "toy_loss": {"token": -0.005892, "item": -0.388794},
        "group_size": 4,
    },
    "06_gpu_training": {
        "stage": "base",
        "steps": 4,
        "resume_gap": 0,
        "closes_marker.policy": 0,
        "held_out.people": 4,
    },
    "07_evaluation": {
        "rows": 8,
        "final": "untrained",
        "untrue.untrained": 0,
        "reports.chance.metrics.hit@5.mean": 0.098105,
    },
    "08_reading_the_official_code": {
        "token_gradient.paper": [-a / 17 for a in ADVANTAGES],
        "token_gradient.code": [0] * 6,
        "token_gradient.code, cut after 3": [-ADVANTAGES[2] / 3 / 9] * 3 + [ADVANTAGES[2] / 3 / 8] * 3,
        "pull.paper": [max(a, 0) / 6 for a in ADVANTAGES],
        "pull.code": [sum(ADVANTAGES[::2]) / 36] * 6,
        "sum_of_advantages.RLOO": [0] * 3,
        "sum_of_advantages.code": [0.693467, 0.722355, 0.757861],
        "mean_reward": [0.693467, 0.722355, 0.757861],
        "share_and_noise.G = 2, leave-one-out, own weight": [1, 1.231984],
        "share_and_noise.G = 2, leave-one-out, shared weight": [1 / 4, 0.637353],
        "share_and_noise.G = 4, leave-one-out, shared weight": [1 / 16, 0.197448],
        "share_and_noise.G = 4, RLOO, own weight": [1, 0.744415],
        "share_and_noise.G = 4, RLOO, shared weight": [0, 0],
        "trained_tokens": {"paper": 17, "code": 16},
        "rank_of_target": {"paper": 1, "code": 4},
        "probability": {"paper": probability_after_updates(clips=True), "code": probability_after_updates(clips=False)},
        "against_the_paper.1 and 2, the axis.tokens": {"length": 0},
        "against_the_paper.1 and 2, the axis.states": {"length": 3.594472, "cosine": 0.134396},
        "against_the_paper.3, leave-one-out.tokens": {"length": 1.074539, "cosine": 0.736812},
        "against_the_paper.all, GRPO.tokens": {"length": 0},
    },
    "09_ablations": {
        "known.the class": 1 / 8,
        "known.class and slot": 1,
        "lessons.steps": 20,
        "ablations.lines": 22,
        "dial.p = 1.counts": 1,
        "dial.p = 1.tallies.sum": [],
        "impossible_rows": {"Table 1": 15, "Table 2": 7},
    },
    "10_six_ways": {
        "exact": [0.1, 0.24, 0.3, 0.1, 0.16, 0.1],
        "scores.divided by the length": [
            math.log(share * 0.9**tokens) / tokens
            for share, tokens in zip([0.1, 0.24, 0.3, 0.1, 0.16, 0.1], [3, 4, 2, 3, 3, 2], strict=True)
        ],
        "scores.forced tokens left out": [
            math.log(x) for x in (0.09, 0.36 * 0.54, 0.27, 0.09, 0.36 * 0.36, 0.09)
        ],
        "pairs": {"possible": 15, "together": 6},
        "one_step": [0.1, -1.22, 1.1, 0.1, -0.42, 0.1],
        "turns.0": math.e / (math.e + 2 * math.e**0.5 + 3),
        "mixed.4": (0.16 * 0.5) ** 0.5,
        "injected.2": 0.06**0.5 / (0.2**0.5 + 0.06**0.5 + 0.3),
        "trie.titles": 60,
    },
}


def test_what_notebook_07_says_of_the_warm_up_is_in_its_log():
    log = ROOT / "results" / "adapters" / "movielens-smollm2-warmup" / "log.jsonl"
    losses = [json.loads(line)["token_loss"] for line in log.read_text(encoding="utf-8").splitlines()]
    bare = losses.count(0)  # no sentence in the step: the state stands right behind the prompt
    card = json.loads((log.parents[1] / "movielens-smollm2-recpo" / "adapter_card.json").read_text(encoding="utf-8"))
    prose = " ".join(" ".join(source(cell) for cell in read("07_evaluation")["cells"]).split())
    said = f"bare prompt in {bare} of its {len(losses)} steps, and behind a sentence in {len(losses) - bare} (its log"
    assert said in prose
    assert f"the {card['steps']} steps of RecPO after it" in prose
    assert bare > len(losses) / 2  # else the bare prompt isn't the more familiar of the two


def look_up(figures: dict, path: str):
    """The figure at a dotted path."""
    for key in path.split("."):
        figures = figures[int(key)] if isinstance(figures, list) else figures[key]
    return figures


def close(value):
    if isinstance(value, list) and value and isinstance(value[0], list):
        return [pytest.approx(row, rel=1e-4) for row in value]
    return value if isinstance(value, str) else pytest.approx(value, rel=1e-4, abs=1e-5)


def test_the_comparison_of_figures_sees_a_wrong_one():
    figures = {"share": {"own": [1.0, 1.232], "shared": [0.0, 0.0]}}
    assert look_up(figures, "share.own") == close([1, 1.232])
    assert look_up(figures, "share.own") != close([1, 1.233])
    assert look_up(figures, "share.shared") != close([1e-4, 0])
    assert figures["share"]["own"] != close([1, 1.2])
    assert close([[1, 2]]) == [[1.0, 2.0]]
    assert close([[1, 2.001]]) != [[1.0, 2.0]]


@pytest.fixture(scope="module", params=NAMES)
def smoke_run(request, tmp_path_factory):
    """A notebook run on smoke: its name, the executed notebook, its figures, and where its records went."""
    out, results = tmp_path_factory.mktemp("executed"), tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        if request.param != IMPORTS:
            patch.setattr(execute, "subprocess", SimpleNamespace(run=run_notebook))
        record = execute.execute(request.param, "smoke", out, results, ROOT)
    executed = json.loads((out / f"{request.param}.ipynb").read_text(encoding="utf-8"))
    return request.param, executed, record, results


def test_smoke_run(smoke_run, tmp_path):
    name, executed, record, results = smoke_run
    assert record["cpu_seconds"] < 2 * 40 - 15  # of 40 s on 2 cores, imports take the rest; the clock counts neighbours
    assert record["peak_mb"] < 8000

    chapter = name in exercise_cells.chapter_names()
    if chapter:
        recorded = json.loads((results / f"{name}.json").read_text(encoding="utf-8"))
        assert recorded["profile"] == "smoke"
        assert recorded["seed"] == 0
        assert recorded["command"]
        assert recorded["device"]
        figures = list(numbers(recorded["figures"]))
        assert figures
        assert all(math.isfinite(figure) for figure in figures)
        for path, expected in RECORDED.get(name, {}).items():
            assert look_up(recorded["figures"], path) == close(expected), path

    staged = stage.stage_notebook(executed, name, tmp_path)  # refuses stderr and figures without alt text
    shown = [output.get("metadata", {}) for cell in staged["cells"] for output in cell.get("outputs", [])]
    alts = [metadata["alt"] for metadata in shown if "alt" in metadata]
    assert alts or not chapter
    assert all(len(alt) >= 40 and re.search(r"\d", alt) for alt in alts)

    printed = "\n".join(
        "".join(output.get("text", "")) for cell in executed["cells"] for output in cell.get("outputs", [])
    )
    kinds = [cell["metadata"].get("exercise", {}).get("kind") for cell in executed["cells"]]
    checked = len(tagged(executed, "exercise")) - kinds.count("investigation")
    assert printed.count("nothing to check yet") == checked
    shown = [text for cell in executed["cells"] for output in cell.get("outputs", []) for text in texts(output)]
    assert [text for text in shown if re.search(r"\bNaN\b", text)] == []  # says nothing to a reader


def texts(output: dict) -> list[str]:
    """What an output says in words: a stream's text, or a table as plain text."""
    return ["".join(part) for part in (output.get("text"), output.get("data", {}).get("text/plain")) if part]


def test_a_missing_figure_would_be_seen():
    assert re.search(r"\bNaN\b", texts({"data": {"text/plain": "0  1.0\n1  NaN"}})[0])


def numbers(value):
    """All numbers in nested figures."""
    if isinstance(value, dict):
        for item in value.values():
            yield from numbers(item)
    elif isinstance(value, list):
        for item in value:
            yield from numbers(item)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield float(value)
