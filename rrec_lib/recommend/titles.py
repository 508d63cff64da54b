"""From titles as people write them to rows of the catalogue."""

import difflib
import re
import unicodedata
from collections.abc import Sequence

from rrec_lib.data.examples import Item
from rrec_lib.data.movielens import natural_title
from rrec_lib.model.prompts import item_name


def find_items(titles: Sequence[str], items: Sequence[Item]) -> list[int]:
    """Catalogue rows of titles, whatever their case, accents, apostrophes and spaces.

    ``"Seven (a.k.a. Se7en) (1995)"`` is found as ``"Seven (1995)"`` and ``"Se7en (1995)"`` too, ``"The Matrix"`` as
    MovieLens writes it, ``"Matrix, The"``. The year may be left out where one film has the title.

    Raises:
        ValueError: for a title that is not in the catalogue, naming the nearest, or that several films share.
    """
    full: dict[str, list[int]] = {}
    short: dict[str, list[int]] = {}
    for row, item in enumerate(items):
        full.setdefault(_key(item_name(item)), []).append(row)
        for title in _titles(str(item["title"])):
            for name in (title, item_name({"title": title, "year": item.get("year")})):
                short.setdefault(_key(name), []).append(row)
    found = []
    for title in titles:
        keys = [_key(title), _key(natural_title(_straight(title).title()))]
        rows = sorted(set(next((names[key] for key in keys for names in (full, short) if key in names), [])))
        if len(rows) != 1:
            raise ValueError(_not_found(title, rows, items))
        found.append(rows[0])
    return found


def name_keys(items: Sequence[Item]) -> list[str]:
    """The names of a catalogue as :func:`complete` compares them."""
    return [_key(item_name(item)) for item in items]


def complete(text: str, keys: Sequence[str], count: int = 8) -> list[int]:
    """Catalogue rows of names that hold every word of a text, for a field that completes what is typed.

    Names that begin with the text come first, then those in which a word does; the rest in the catalogue's order.

    Args:
        text: the beginning of a title, or words of it; case, accents and apostrophes don't matter.
        keys: see :func:`name_keys`.
        count: at most so many.
    """
    wanted = _key(text)
    words = wanted.split()
    found = [row for row, key in enumerate(keys) if all(word in key for word in words)]
    return sorted(found, key=lambda row: (not keys[row].startswith(wanted), f" {wanted}" not in keys[row]))[:count]


def _titles(title: str) -> list[str]:
    """The names that one catalogue title holds: as it stands, without its brackets, and what is in them."""
    aliases = re.findall(r"\((?:a\.k\.a\. )?([^()]+)\)", title)
    return [title, re.sub(r"\s*\([^()]*\)", "", title), *aliases]


def _key(title: str) -> str:
    """Fold case, accents, apostrophes and runs of spaces."""
    letters = unicodedata.normalize("NFKD", _straight(title)).casefold()
    return " ".join("".join(letter for letter in letters if not unicodedata.combining(letter)).split())


def _straight(title: str) -> str:
    """An editor's apostrophe as a keyboard's."""
    return title.replace("\u2019", "'")


def _not_found(title: str, rows: list[int], items: Sequence[Item]) -> str:
    if rows:
        found = [item_name(items[row]) for row in rows]
        remedy = "add the year" if len(set(found)) > 1 else "several have that name; choose another film"
        return f"{title!r} could be {'; '.join(found)}: {remedy}"
    names = {_key(name): item_name(item) for item in items for name in (item_name(item), *_titles(item["title"]))}
    wanted = _key(title)
    near = [name for key, name in names.items() if wanted and wanted in key]
    near += [names[key] for key in difflib.get_close_matches(wanted, names, n=3, cutoff=0.5)]
    hint = f"did you mean {'; '.join(list(dict.fromkeys(near))[:3])}?" if near else "no title is near it"
    return f"{title!r} is not among the {len(items)} films of this profile; {hint}"
