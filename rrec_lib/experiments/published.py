"""The paper's tables, in units of 1e-4, which rows can't be right with one target per example, and their page."""

import inspect
import re
from collections.abc import Iterator, Sequence
from math import log2

SETS = ("Instruments", "CDs", "Games")
CUTOFFS = (5, 10, 20)
HEADS = tuple(f"{metric}@{k}" for k in CUTOFFS for metric in ("H", "N"))
Figures = Sequence[float]  # Hit and NDCG in turn, at rising cutoffs

# R²ec (arXiv 2505.16994, v3), Table 1, for the three sets. The rows of the Gemma baselines were hardest to read.
TABLE_1: dict[str, tuple[Figures, ...]] = {
    "GRU4Rec": ((171, 135, 193, 142, 201, 144), (67, 37, 104, 41, 156, 51), (109, 70, 181, 93, 301, 123)),
    "Caser": ((109, 141, 115, 149, 127, 155), (45, 29, 67, 37, 89, 42), (124, 83, 191, 103, 279, 126)),
    "SASRec": ((175, 144, 201, 162, 223, 210), (76, 104, 81, 119, 86, 141), (129, 80, 206, 105, 326, 135)),
    "TIGER": ((171, 128, 184, 132, 193, 134), (67, 45, 97, 55, 156, 69), (123, 85, 222, 116, 323, 142)),
    "Qwen BigRec": ((52, 33, 111, 52, 189, 72), (45, 25, 89, 39, 141, 52), (8, 4, 16, 6, 128, 34)),
    "Qwen D3": ((42, 20, 94, 37, 192, 62), (82, 57, 141, 76, 253, 104), (54, 28, 104, 44, 197, 67)),
    "Qwen LangPTune": ((127, 83, 224, 115, 348, 145), (74, 53, 156, 80, 208, 94), (49, 27, 88, 40, 140, 140)),
    "Qwen R²ec": ((237, 154, 374, 198, 615, 259), (513, 372, 647, 414, 818, 457), (288, 185, 532, 264, 827, 337)),
    "Gemma BigRec": ((68, 48, 101, 58, 130, 66), (30, 30, 52, 37, 119, 53), (156, 105, 260, 138, 430, 182)),
    "Gemma D3": ((72, 38, 202, 80, 339, 114), (216, 129, 327, 164, 446, 194), (117, 68, 210, 141, 478, 224)),
    "Gemma SDPO": ((66, 34, 98, 54, 144, 71), (22, 18, 37, 25, 162, 94), (166, 122, 298, 155, 466, 222)),
    "Gemma LLaRA": ((78, 55, 137, 74, 159, 80), (97, 39, 127, 49, 202, 152), (275, 173, 428, 223, 677, 299)),
    "Gemma SPRec": ((70, 33, 111, 62, 142, 77), (29, 22, 37, 25, 124, 63), (152, 113, 244, 133, 566, 211)),
    "Gemma LangPTune": ((130, 79, 221, 107, 403, 152), (350, 235, 469, 274, 677, 325), (68, 53, 120, 59, 195, 94)),
    "Gemma R²ec": ((264, 161, 397, 203, 615, 257), (573, 398, 804, 472, 1042, 527), (326, 205, 531, 271, 835, 347)),
}
# The same paper's Table 2, the ablation, with this book's names for its lines.
TABLE_2: dict[str, tuple[Figures, ...]] = {
    "full": ((264, 161, 397, 203, 615, 257), (588, 388, 804, 457, 1086, 525), (326, 205, 531, 271, 853, 363)),
    "without reasoning": (
        (176, 121, 296, 153, 511, 200), (469, 321, 692, 393, 945, 456), (277, 174, 441, 227, 748, 303)),
    "classification head": ((44, 23, 102, 33, 179, 67), (30, 25, 45, 27, 95, 44), (12, 8, 22, 11, 133, 32)),
    "without R_d": ((198, 124, 338, 164, 560, 224), (521, 338, 766, 404, 974, 486), (302, 196, 487, 254, 798, 332)),
    "without R_c": ((244, 160, 394, 208, 605, 258), (543, 382, 774, 456, 1012, 515), (316, 202, 534, 264, 814, 355)),
}  # fmt: skip

# Its comparison of embedding positions, on CDs alone: Hit and NDCG at 5 and 10. "full" takes the special token there.
STATES: dict[str, Figures] = {
    "full": (509, 353, 737, 432), "mean state": (528, 368, 796, 453), "last-token state": (588, 388, 804, 457),
}  # fmt: skip
TEST_SETS = {  # R²ec, App. B
    "Instruments": ("Musical Instruments", 3438),
    "CDs": ("CDs and Vinyl", 1344),
    "Games": ("Video Games", 6351),
}
CITED = {
    "GRU4Rec": "hidasi2016gru4rec", "Caser": "tang2018caser", "SASRec": "kang2018sasrec", "TIGER": "rajput2023tiger",
    "BigRec": "bao2023bigrec", "D3": "bao2024decoding", "LangPTune": "gao2024langptune", "SDPO": "chen2024softmaxdpo",
    "LLaRA": "liao2024llara", "SPRec": "gao2025sprec",
}  # fmt: skip


def published_rows() -> Iterator[tuple[str, str, str, Figures]]:
    """Table, set, method and figures of each of the 60 rows, table by table and set by set."""
    for table, methods in (("Table 1", TABLE_1), ("Table 2", TABLE_2)):
        for number, place in enumerate(SETS):
            for name, sets in methods.items():
                yield table, place, name, sets[number]


def contradictions(figures: Figures, cutoffs: Sequence[int] = CUTOFFS, unit: float = 1) -> dict[int, str]:
    """What can't be right about a row of Hit@k and NDCG@k, where each example has one target; nothing if all can.

    A target at rank r earns 1 / log2(1 + r). So whoever is hit at 10 and not yet at 5 has earned between 1 / log2(11)
    and 1 / log2(7) more at 10 than at 5.

    Args:
        figures: Hit and NDCG in turn, at each cutoff.
        cutoffs: rising.
        unit: that the figures were rounded to. A difference of two may be off by as much.

    Returns:
        For each cutoff at which the figures contradict each other, a sentence that says how.
    """
    found: dict[int, str] = {}
    k_before, hit_before, ndcg_before = 0, 0.0, 0.0
    for k, hit, ndcg in zip(cutoffs, figures[::2], figures[1::2], strict=True):
        hits, earned = hit - hit_before, ndcg - ndcg_before
        least = (hits - unit) / log2(1 + k) - unit  # all of them at rank k
        most = (hits + unit) / log2(2 + k_before) + unit  # all right behind the cutoff before
        step = f"N@{k} − N@{k_before} is {earned:g}" if k_before else f"N@{k} is {earned:g}"
        if hits < 0:
            found[k] = f"H@{k} is below H@{k_before}"
        elif not least <= earned <= most:
            found[k] = f"{step}, but {hits:g} hits earn {hits / log2(1 + k):.0f} to {hits / log2(2 + k_before):.0f}"
        elif ndcg > hit:
            found[k] = f"N@{k} is above H@{k}"
        k_before, hit_before, ndcg_before = k, hit, ndcg
    return found


def published_tables() -> str:
    """Markdown: the paper's results on each set, what can't be right marked, and the code that decides it."""
    code = ["```python", *inspect.getsource(contradictions).rstrip().splitlines(), "```", ""]
    rows = list(published_rows())
    broken = [table for table, _, _, figures in rows if contradictions(figures)]
    counts = " and ".join(f"{broken.count(table)} in {table}" for table in dict.fromkeys(broken))
    lines = [*code, f"It finds something in {len(broken)} of the {len(rows)} rows below, {counts}."]
    for place, (title, examples) in TEST_SETS.items():
        hit = TABLE_2["full"][SETS.index(place)][0] / 1e4
        width = 1.96 * (hit * (1 - hit) / examples) ** 0.5 * 1e4
        lines += [
            "",
            f"**{title}**, {examples:,} test examples. 95 % half-width of H@5 for *full*: about ±{width:.0f}.",
        ]
        lines += ["", "| method | " + " | ".join(HEADS) + " |", "|---|" + "---:|" * len(HEADS)]
        lines += [_published_row(table, name, figures) for table, where, name, figures in rows if where == place]
    return "\n".join(lines) + "\n"


def _published_row(table: str, name: str, figures: Sequence[float]) -> str:
    wrong = contradictions(figures)
    cells = [
        f"{figure}" + "\u00a0‡" * (head in {f"N@{k}" for k in wrong})
        for head, figure in zip(HEADS, figures, strict=True)
    ]
    label = re.sub(r"R_(\w)", r"$R_\1$", name)
    cited = CITED.get(name.split()[-1])
    label = f"{label} {{cite:p}}`{cited}`" if cited else f"**{label}**" if "R²ec" in name else label
    return f"| {'*ablation:* ' * (table == 'Table 2')}{label} | " + " | ".join(cells) + " |"
