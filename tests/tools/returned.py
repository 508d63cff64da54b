"""A small notebook of exercises, and notebooks as students return them."""

import copy
import json
from pathlib import Path

import exercise_cells
import nbformat

NAME = "05_recpo_reward_design_exercises"
FOLD = "<details>\n<summary>{}</summary>\n\n{}\n\n</details>"
INVESTIGATION = ("Rubric", "A sample answer")


def folded(solution: str, *open_ended: str) -> str:
    parts = [("Hint 1", "Think."), ("Hint 2", "Think again.")]
    if open_ended:
        parts += zip(INVESTIGATION, open_ended, strict=True)
    else:
        parts.append(("Solution", f"```python\n{solution}\n```\n\nFor a reason."))
    return "\n\n".join(FOLD.format(*part) for part in parts)


def exercise(name: str, kind: str, stars: int, stub: str, check: str, told: str) -> list:
    given = {"id": name, "difficulty": stars, "minutes": 5, "kind": kind}
    text = f"### {name} · Number {name}\n\n{'★' * stars}{'☆' * (3 - stars)} · about 5 minutes (an estimate)\n\nDo it."
    cells = [nbformat.v4.new_markdown_cell(text, metadata={"exercise": given})]
    cells.append(nbformat.v4.new_code_cell(stub, metadata={"tags": ["exercise"]}))
    cells += [nbformat.v4.new_code_cell(check)] if check else []
    return [*cells, nbformat.v4.new_markdown_cell(told)]


def function(name: str, parameters: str, *lines: str) -> str:
    return "\n".join([f"def {name}({parameters}):", *(f"    {line}" for line in lines)])


STUB = "raise NotImplementedError"
TOKENS = "logprobs, old, mask, advantages, eps"
SOLUTIONS = {
    "05.3": function("my_rloo", "rewards", "n = rewards.shape[1]", "own = rewards", "total = own.sum(1, keepdim=True)",
                     "return own - (total - own) / (n - 1)"),
    "05.4": function("my_top", "scores, seen, k", "scores = scores.clone()", "scores[list(seen)] = -math.inf",
                     "return scores.topk(k).indices"),
    "05.5": "my_ndcg, my_hit = 0.5, 0.5",
    "05.6": function("my_loss", TOKENS, "ratio, a = (logprobs - old).exp(), advantages[:, None]",
                     "gain = torch.minimum(ratio * a, ratio.clamp(1 - eps, 1 + eps) * a)",
                     "return -gain[mask].sum() / mask.sum()"),
    "05.7": function("my_test", "rule", "r = torch.tensor([[0., 1, 1, 1], [1, 1, 1, 1], [5, 7, 9, 9]]).double()",
                     "a = rule(r)", "return bool(a.sum(1).abs().max() < 1e-4 and a[1].abs().max() < 1e-4)"),
}  # fmt: skip


def companion() -> dict:
    """The notebook of exercises, as the book would hold it."""
    code, text = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell
    head = "import math\n\nimport torch\n\nfrom rrec_lib.exercises import nb01, nb05, nb08, board as nb00"
    stubs = {
        "05.3": function("my_rloo", "rewards", STUB),
        "05.4": function("my_top", "scores, seen, k", STUB),
        "05.5": "my_ndcg, my_hit = ..., ...",
        "05.6": function("my_loss", TOKENS, STUB),
        "05.7": function("my_test", "rule", STUB),
    }
    checks = {
        "05.3": "nb05.check_rloo(my_rloo);",
        "05.4": "nb01.check_top_k(my_top);",
        "05.5": "nb00.check_tie((my_ndcg, my_hit));",
        "05.6": "nb08.check_token_loss(my_loss);",
        "05.7": "nb08.check_advantage_test(my_test);",
    }
    stars = {"05.3": 1, "05.4": 1, "05.5": 2, "05.6": 2, "05.7": 3}
    cells = [
        text("# 05 · A reward: exercises and quiz\n\n[Open in Colab](https://example.invalid)\n\nWhat it assumes."),
        code("raise SystemError('the set-up cell is not for grading')", metadata={"tags": ["setup"]}),
        code('profile = "paper"\nseed = 0', metadata={"tags": ["parameters"]}),
        code(head),
        code('assert profile == "smoke"'),
    ]
    for name, stub in stubs.items():
        kind = "prediction" if name == "05.5" else "code"
        cells += exercise(name, kind, stars[name], stub, checks[name], folded(SOLUTIONS[name]))
    rubric = "- **Full:** all of it."
    cells += exercise("05.8", "investigation", 3, "answer = ...", "", folded("", rubric, "```python\n# a guess\n```"))
    cells += [text("## Quiz"), code('raise SystemError("no quiz")', metadata={"tags": ["quiz"]})]
    return json.loads(nbformat.writes(nbformat.v4.new_notebook(cells=cells)))


def project(folder: Path) -> Path:
    """A folder with nothing but this notebook of exercises."""
    (folder / "notebooks").mkdir(parents=True)
    (folder / "notebooks" / f"{NAME}.ipynb").write_text(json.dumps(companion()), encoding="utf-8")
    return folder


def returned(path: Path, answers: dict[str, str]) -> None:
    """Write the notebook with answers in the place of stubs, as Colab returns it: without ids and own metadata."""
    notebook = copy.deepcopy(companion())
    for name, places in exercise_cells.regions(notebook["cells"]).items():
        if name in answers:
            notebook["cells"][places[1]]["source"] = answers[name]
    for cell in notebook["cells"]:
        del cell["id"]
        cell["metadata"] = {"id": "abc"}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**notebook, "nbformat_minor": 0}), encoding="utf-8")
