"""The glossary holds every term that a page uses: abbreviations, words of the field, terms linked to it."""

import json
import re
from pathlib import Path

import exercise_cells
import glossary
import pytest

ROOT = Path(__file__).resolve().parents[2]
ASIDE = re.compile(  # citations, code, formulas, targets of links, HTML, addresses
    r"\{cite[^`]*`[^`]*`|`[^`]+`|\$\$.*?\$\$|\$[^$]+\$|(?<=\])\([^)]*\)|<[^>]+>|https?://\S+", re.DOTALL
)
ABBREVIATION = re.compile(r"(?<![\w-])[A-Z]{2,}\d*(?![\w-])")
# Anybody's words, names of institutions, licences and files, and names of methods that the text only cites.
EVERYDAY = set(re.split(r"\s+", """ACM AMD ARM ASCII BY CC CD CHANGELOG CITATION CONTRIBUTING CPU CSV CUDA GB GPT GPU
HTML ISO JSON LICENSE LLM MB MIT NVIDIA PDF PNG RBO RTX SDPO SECURITY URL USB UTC UTF WSL YAML"""))  # fmt: skip
IN_FULL = {
    "KL": "KL term",
    "KV": "KV cache",
    "logQ": "logQ correction",
    "NDCG": "NDCG@k",
    "RL": "policy gradient",
    "TF": "TF-IDF",
}
FIELD = re.split(
    r",\s+",
    """ablation, adapter, advantage, arm, autocast, baseline, bfloat16, bootstrap, broadcasting, catalogue, ceiling,
checkpoint, clipping, control, critic, cross-entropy, d_z, DeepSpeed, dial, distilled, entropy,
expected reward, GFLOP, greedy, GRU4Rec, habit, held-out, hidden state, importance ratio, in-batch negatives,
instruction-tuned, ItemKNN, item table, k-core, KL term, KV cache, lab, leakage, leave-one-out,
log-derivative trick, logit, logQ correction, LoRA, margin, marker, masking, on-policy, packing, pad, paired,
padding, PEFT, policy, policy gradient, PPMI, prefix, profile, prompt, reasoning, RecPO, residual stream,
reward, rollout, sampled metric, SASRec, seed, skill, softmax, tally, target, temperature, tie, top-K,
trajectory, TRL, unbiased, value network, vLLM, warm-up, ZeRO,
Accelerate, activation checkpointing, attention, average overlap, base model, chain, chatter, clip, co-occurrence,
cold start, contrastive, cosine, CPU hour, cutoff, data card, decode step, decoder, embedding, event, example, float16,
float32, float64, frozen, fused reward, gradient norm, half-width, history, in-batch softmax, learning-rate schedule,
log-probability, manifest, matrix peak, micro-batch, mini-batch, MovieLens, negative, objective, pause token,
popularity, processor second, quantised, R_c, R_d, rank, rank correlation, ranking reward, ratio, reasoning recommender,
recorded run, REINFORCE, repeat, score, sequence model, similarity reward, SmolLM2, soft-capping, split, stage,
standard error, supervised, taught model, text similarity, token, tokenizer, TOST, toy world, trial, tuned, two-tower,
valid, variance, vocabulary, window""",
)
# Names in which capitals stand inside: institutions, file formats, programs, other works and models.
NAMES = set(re.split(r"\s+", """CommonMark DeepSeekMath GiB GitHub GroupLens JupyterLab LLaRA LiGR MathJax MyST NeurIPS
NumPy OneRec OpenOneRec PyTorch Qwen2 RRec RecBole RecTools TeX TiiS YRYangang arXiv macOS"""))  # fmt: skip
INSIDE = re.compile(r"(?<![\w-])(?=\w*[a-z])[A-Za-z0-9]*[A-Za-z][0-9]*[A-Z][A-Za-z0-9]*(?![\w-])", re.ASCII)
INTRODUCED = re.compile(r"(?:\bcalled|\bknown as|(?:^|[.:]\s)An?)\s+\*([a-z][a-z\s-]+)\*(?!\*)", re.MULTILINE)
USE = re.compile(r"\{term\}`(?:[^`<]*<)?([^`<>]+)>?`")


def prose(path: Path) -> str:
    """What people read of a page or notebook."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return text


def without_code(text: str) -> str:
    """A text without its blocks of code and formulas; what stands in other directives stays."""
    kept, code, open_directives = [], "", 0
    for line in text.splitlines():
        fence = re.match(r"(`{3,}|~{3,}|:{3,})(.*)", line)
        if code:
            code = "" if line.strip() == code else code
        elif fence and (fence[2].startswith("{math}") or not (fence[2].startswith("{") or open_directives)):
            code = fence[1]
        elif fence:
            open_directives += 1 if fence[2] else -1
        else:
            kept.append(line)
    return "\n".join(kept)


GLOSSARY = glossary.terms((ROOT / "book" / "glossary.md").read_text(encoding="utf-8"))
PAGES = [
    path
    for pattern in ("README.md", "book/**/*.md", "notebooks/*.ipynb")
    for path in sorted(ROOT.glob(pattern))
    if path.name not in ("glossary.md", "bibliography.md") and "_generated" not in path.parts
]


def missing(text: str, known: set[str] = GLOSSARY) -> list[str]:
    """What a text uses and the glossary lacks: abbreviations, words of the field, terms that are linked to it."""
    plain = ASIDE.sub(" ", without_code(text))
    found = {IN_FULL.get(word, word) for word in ABBREVIATION.findall(plain) if word not in EVERYDAY}
    found |= {IN_FULL.get(word, word) for word in INSIDE.findall(plain) if not {word, word[:-1]} & (NAMES | EVERYDAY)}
    found |= set(INTRODUCED.findall(plain))
    found |= {word for word in FIELD if re.search(rf"(?<![\w-]){re.escape(word)}s?(?![\w-])", plain)}
    found |= set(glossary.LINKED.findall(text)) | set(USE.findall(text))
    return sorted(" ".join(word.split()) for word in found if not glossary.term(word, known))


def assumed(notebook: str) -> list[str]:
    """The terms that a notebook's opening box lists as assumed, each a link to the glossary."""
    box = [line.removeprefix(">").strip() for line in notebook.splitlines() if line.startswith(">")]
    listed = re.search(r"\*\*Terms assumed\*\*(.*?)(?:\*\*|$)", " ".join(box))
    return glossary.LINKED.findall(listed[1]) if listed else []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_term_of_a_page_is_in_the_glossary(page):
    assert missing(prose(page)) == []


@pytest.mark.parametrize("name", exercise_cells.chapter_names())
def test_a_chapters_box_lists_the_terms_it_assumes(name):
    listed = assumed(prose(ROOT / "notebooks" / f"{name}.ipynb"))
    assert listed
    assert [word for word in listed if not glossary.term(word, GLOSSARY)] == []
    assert len(set(listed)) == len(listed)


def test_the_check_of_boxes_reads_links_alone():
    box = (
        "> **Before this** nothing.\n> **Terms assumed** [an\n> arm](../book/glossary.md), seed.\n> **Time** [x](a.md)"
    )
    assert assumed(box) == ["an arm"]
    assert assumed("> **Before this** [arm](../book/glossary.md)") == []


@pytest.mark.parametrize(
    ("text", "lacks"),
    [
        (
            "The WordNet of *stress* is called *reading\naloud*. A *drill* is one.",
            ["WordNet", "drill", "reading aloud"],
        ),
        ("see {term}`rules <rule>` and {term}`policy`", ["rule"]),
        ("GPUs, PyTorch, GroupLens, logQ, McGill", ["McGill", "logQ correction"]),
        ("We use the XYZQ estimator.", ["XYZQ"]),
        ("The KV cache of an arm.", ["KV cache", "arm"]),
        ("Its residual\nstream", []),  # not on one line: the word is looked for where it stands whole
        ("`XYZQ` and $XYZQ$ are code and a formula, `a\nXYZQ` too", []),
        ("```{dropdown} Key\nThe ABCD\n```\nXYZQ\n```\nEFGH\n```\n", ["ABCD", "XYZQ"]),
        ("```python\nXYZQ\n```", []),
        ("[word of ours](../book/glossary.md)", ["word of ours"]),
        ("A policy on a GPU", []),
    ],
)
def test_the_check_sees_what_a_glossary_lacks(text, lacks):
    assert missing(text, {"policy"}) == lacks


def test_links_become_references_to_terms():
    known = glossary.terms("```{glossary}\n:sorted:\n\nratio\nimportance ratio\n    One over the other.\n```\n")
    assert known == {"ratio", "importance ratio"}
    text = "> [importance\n> ratio](../book/glossary.md), [Ratios](../book/glossary.md)"
    changed = "> {term}`importance ratio <importance ratio>`, {term}`Ratios <ratio>`"
    page = "[the glossary](../book/glossary.md)"
    assert glossary.with_terms(f"{text}, {page}", known) == f"{changed}, {page}"


def test_the_words_looked_for_are_terms_and_are_used():
    everything = "\n".join(prose(page) for page in PAGES)
    used = [word for word in FIELD if re.search(rf"(?<![\w-]){re.escape(word)}", everything, re.IGNORECASE)]
    assert len(used) > 140
    assert [word for word in FIELD if not glossary.term(word, GLOSSARY)] == []
