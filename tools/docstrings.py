"""What a module says of itself, as Markdown: each writing baseline's source, what was left out, and what differs."""

import re
from importlib import import_module

WRITERS = {
    "BigRec": "bigrec", "D3": "d3", "S-DPO": "sdpo", "SPRec": "sprec", "LLaRA": "llara", "LangPTune": "langptune",
}  # fmt: skip
MARKS = (
    (r"``([a-z]+\d{4}[a-z]+)``(?: in the book's references)?", r"{cite:p}`\1`"),
    (r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"`\1`"),
    (r"``([^`]+)``", r"`\1`"),
)


def as_markdown(docstring: str) -> str:
    """A docstring's reStructuredText, of what this project uses of it."""
    for pattern, replacement in MARKS:
        docstring = re.sub(pattern, replacement, docstring)
    return docstring.strip()


def writers_text() -> str:
    """A box for each baseline that writes, folded: its module's docstring."""
    boxes = []
    for name, module in WRITERS.items():
        docstring = import_module(f"rrec_lib.baselines.generative.{module}").__doc__ or ""
        text = as_markdown(docstring).removeprefix(f"{name}: ")
        boxes.append(f"```{{dropdown}} {name}: what was left out, and where paper, public code and this differ\n"
                     f"{text[0].upper()}{text[1:]}\n```")  # fmt: skip
    return "\n\n".join(boxes) + "\n"
