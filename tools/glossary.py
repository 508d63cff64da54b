"""The glossary's terms, and links to it: one that names a term leads to the term on the rendered page."""

import re
from collections.abc import Collection

# A notebook links to the page, since Colab and GitHub know no terms: [KV cache](../book/glossary.md).
LINKED = re.compile(r"\[((?!(?:the )?glossary\])[^\]]+)\]\((?:\.\./){0,2}(?:book/)?glossary\.md\)")


def terms(page: str) -> set[str]:
    """The terms of the glossary's page, in small letters."""
    block = re.search(r"^```\{glossary\}\n:sorted:\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    if not block:
        raise ValueError("the page has no block ```{glossary} with :sorted: in it")
    return {line.lower() for line in re.findall(r"^\S.*$", block[1], re.MULTILINE)}


def term(word: str, known: Collection[str]) -> str | None:
    """The term that a word names, be it in the plural or broken over two lines; None if there is none."""
    word = " ".join(word.replace("\n>", "\n").split()).lower()
    return next((form for form in (word, word.removesuffix("s"), word.removesuffix("es")) if form in known), None)


def with_terms(text: str, known: Collection[str]) -> str:
    """Markdown whose links to the glossary have become MyST's references to its terms."""

    def reference(match: re.Match[str]) -> str:
        word, found = " ".join(match[1].replace("\n>", "\n").split()), term(match[1], known)
        return f"{{term}}`{word} <{found}>`" if found else match[0]

    return LINKED.sub(reference, text)
