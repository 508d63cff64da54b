"""The glossary holds every term that a page uses: abbreviations, words of the field, terms linked to it."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ASIDE = re.compile(  # citations, code, formulas, targets of links, HTML, addresses
    r"\{cite[^`]*`[^`]*`|`[^`]+`|\$\$.*?\$\$|\$[^$]+\$|(?<=\])\([^)]*\)|<[^>]+>|https?://\S+", re.DOTALL
)
ABBREVIATION = re.compile(r"(?<![\w-])[A-Z]{2,}\d*(?![\w-])")
LINKED = re.compile(r"\[((?!glossary\])[^\]]+)\]\((?:\.\./)?(?:\.\./)?(?:book/)?glossary\.md[^)]*\)")
# Anybody's words, names of institutions, licences and files, and names of methods that the text only cites.
EVERYDAY = set(re.split(r"\s+", """ACM AMD ARM ASCII BY CC CD CHANGELOG CITATION CONTRIBUTING CPU CSV CUDA GB GPT GPU
HTML ISO JSON LICENSE LLM MB MIT NVIDIA PDF PNG RBO RTX SDPO SECURITY URL USB UTC UTF WSL YAML"""))  # fmt: skip
IN_FULL = {"KL": "KL term", "KV": "KV cache", "NDCG": "NDCG@k", "RL": "policy gradient", "TF": "TF-IDF"}
FIELD = re.split(
    r",\s+",
    """ablation, adapter, advantage, arm, autocast, baseline, bfloat16, bootstrap, broadcasting, catalogue, ceiling,
checkpoint, clipping, control, critic, cross-entropy, d_z, DeepSpeed, dial, distilled, entropy,
expected reward, GFLOP, greedy, GRU4Rec, habit, held-out, hidden state, importance ratio, in-batch negatives,
instruction-tuned, ItemKNN, item table, k-core, KL term, KV cache, lab, leakage, leave-one-out,
log-derivative trick, logit, logQ correction, LoRA, margin, marker, masking, on-policy, packing, pad, paired,
padding, PEFT, policy, policy gradient, PPMI, prefix, profile, prompt, reasoning, RecPO, residual stream,
reward, rollout, sampled metric, SASRec, seed, skill, softmax, tally, target, temperature, tie, top-K,
trajectory, TRL, unbiased, value network, vLLM, warm-up, ZeRO""",
)


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


def terms(page: str) -> set[str]:
    """The glossary's terms, in small letters."""
    block = re.search(r"^```\{glossary\}\n:sorted:\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert block
    return {line.lower() for line in re.findall(r"^\S.*$", block.group(1), re.MULTILINE)}


GLOSSARY = terms((ROOT / "book" / "glossary.md").read_text(encoding="utf-8"))
PAGES = [
    path
    for pattern in ("README.md", "book/**/*.md", "notebooks/*.ipynb")
    for path in sorted(ROOT.glob(pattern))
    if path.name not in ("glossary.md", "bibliography.md") and "_generated" not in path.parts
]


def defined(word: str, glossary: set[str] = GLOSSARY) -> bool:
    """Whether a term is in the glossary, in the plural too."""
    word = " ".join(word.split()).lower()
    return bool({word, word.removesuffix("s"), word.removesuffix("es")} & glossary)


def missing(text: str, glossary: set[str] = GLOSSARY) -> list[str]:
    """What a text uses and the glossary lacks: abbreviations, words of the field, terms that are linked to it."""
    plain = ASIDE.sub(" ", without_code(text))
    found = {IN_FULL.get(word, word) for word in ABBREVIATION.findall(plain) if word not in EVERYDAY}
    found |= {word for word in FIELD if re.search(rf"(?<![\w-]){re.escape(word)}s?(?![\w-])", plain)}
    return sorted(word for word in found | set(LINKED.findall(text)) if not defined(word, glossary))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_term_of_a_page_is_in_the_glossary(page):
    assert missing(prose(page)) == []


@pytest.mark.parametrize(
    ("text", "lacks"),
    [
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


def test_the_words_looked_for_are_used_and_the_terms_that_were_missed_are_there():
    everything = "\n".join(prose(page) for page in PAGES)
    used = [word for word in FIELD if re.search(rf"(?<![\w-]){re.escape(word)}", everything, re.IGNORECASE)]
    assert len(used) > 70
    for word in (
        "KV cache",
        "residual stream",
        "TRL",
        "PPMI",
        "d_z",
        "arm",
        "logQ correction",
        "LoRA",
        "marker",
        "pad",
    ):
        assert defined(word)
