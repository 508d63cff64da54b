"""The paper's tables as the book shows them, each row marked by its arithmetic."""

import inspect
import re
from collections.abc import Sequence

from rrec_lib.experiments.published import HEADS, SETS, TABLE_2, contradictions, published_rows

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
