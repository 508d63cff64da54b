"""HTML of a desk's answers: films as cards, lists side by side, rewards as a table. Every text is escaped."""

import zlib
from collections.abc import Sequence
from html import escape

from rrec_lib.data.examples import Item
from rrec_lib.demo.desk import Comparison, History, Listed, Rewarded
from rrec_lib.model.prompts import item_name
from rrec_lib.training.skills import labels

COLUMNS = {"own": "Behind its own words", "none": "Behind no words", "others": "Behind words about somebody else"}
ADVANTAGE_NAMES = {"grpo": "GRPO", "rloo": "RLOO"}


def note(text: str, mistake: bool = False) -> str:
    """A sentence about what goes on, which screen readers hear."""
    if not text:
        return ""
    kind = 'rr-note rr-mistake" role="alert' if mistake else 'rr-note" role="status'
    return f'<p class="{kind}">{escape(text)}</p>'


def prompt(text: str) -> str:
    """The prompt as the model reads it."""
    return f'<pre class="rr-prompt" tabindex="0" aria-label="Prompt">{escape(text)}</pre>'


def cards(listed: Listed, items: Sequence[Item]) -> str:
    """A list as cards, best first."""
    shown = enumerate(zip(listed.rows, listed.shares, strict=True), 1)
    return f'<ol class="rr-cards">{"".join(_card(place, items[row], share) for place, (row, share) in shown)}</ol>'


def _card(place: int, item: Item, share: float) -> str:
    genres = labels(item)[:3]
    hue = zlib.crc32((genres[0] if genres else "").encode()) % 360
    year = f'<span class="rr-year">{item["year"]}</span>' if item.get("year") else ""
    chips = "".join(f"<span>{escape(genre)}</span>" for genre in genres)
    return (
        f'<li class="rr-card" style="--hue: {hue}"><span class="rr-place">{place}</span>'
        f'<span class="rr-title">{escape(str(item["title"]))}</span>{year}<span class="rr-genres">{chips}</span>'
        f'<span class="rr-share" title="softmax probability among all that may be listed">{_percent(share)}</span></li>'
    )


def comparing(texts: Sequence[str]) -> str:
    """What is written so far for the reader and for somebody else."""
    shown = {"own": texts[0], "none": "", "others": texts[1]}
    return _columns({name: _words(text, True) for name, text in shown.items()})


def compared(found: Comparison, items: Sequence[Item]) -> str:
    """Three lists side by side, and where a film stands behind the model's own words."""
    lists = {"own": found.own, "none": found.none, "others": found.others}
    bodies = {}
    for name, listed in lists.items():
        whose = f'<p class="rr-whose">{escape(told(found.other, items))}</p>' if name == "others" else ""
        rows = "".join(
            f"<li><span>{escape(item_name(items[row]))}</span>"
            f"{'' if name == 'own' else _move(found.own.rows, row, place)}</li>"
            for place, row in enumerate(listed.rows)
        )
        bodies[name] = f'{_words(listed.text, listed.finished, name == "none")}{whose}<ol class="rr-list">{rows}</ol>'
    return _columns(bodies)


def shared(found: Comparison) -> str:
    """How much of the list stays, as a sentence."""
    whole = len(found.own.rows)
    none, others = (len(set(found.own.rows) & set(one.rows)) for one in (found.none, found.others))
    return (
        f"Of the {whole} listed behind its own words, {none} are listed behind none as well, and {others} behind words "
        "about somebody else."
    )


def told(history: History, items: Sequence[Item]) -> str:
    """A history as a line."""
    rated = zip(history.rows, history.ratings, strict=True)
    return "Who has seen " + "; ".join(f"{item_name(items[row])}, {rating:g}/5" for row, rating in rated)


def _columns(bodies: dict[str, str]) -> str:
    parts = [f'<section class="rr-column"><h3>{COLUMNS[name]}</h3>{body}</section>' for name, body in bodies.items()]
    return f'<div class="rr-columns">{"".join(parts)}</div>'


def _words(text: str, finished: bool, silent: bool = False) -> str:
    if silent:
        return '<p class="rr-words rr-silent">(the marker follows the prompt at once)</p>'
    return f'<p class="rr-words">{escape(text) or "…"}{"" if finished else " [unfinished]"}</p>'


def _move(own: Sequence[int], row: int, place: int) -> str:
    """How far a film stands from where it is behind the model's own words; a sign as well as a colour."""
    if row not in own:
        return '<b class="rr-move rr-new">new</b>'
    up = own.index(row) - place
    if up == 0:
        return '<b class="rr-move" aria-label="same place">=</b>'
    kind, sign, word = ("rr-up", "▲", "higher") if up > 0 else ("rr-down", "▼", "lower")
    words = f"{abs(up)} place{'s' if abs(up) > 1 else ''} {word}"
    return f'<b class="rr-move {kind}" aria-label="{words}">{sign}{abs(up)}</b>'


def sampling(texts: Sequence[str]) -> str:
    """A group that is being written."""
    rows = "".join(f'<li class="rr-words">{escape(text) or "…"}</li>' for text in texts)
    return f'<ol class="rr-drafts">{rows}</ol>'


def rewarded(found: Rewarded, beta: float, cutoff: int, name: str) -> str:
    """The group as a table, the best first."""
    largest = {name: max(map(abs, values)) or 1.0 for name, values in found.advantages.items()}
    order = sorted(range(len(found.texts)), key=lambda i: -found.fused[i])
    head = "".join(
        f'<th scope="col">{title}</th>'
        for title in (
            "Reasoning", f"Place of {escape(name)}", "R<sub>d</sub>", "R<sub>c</sub>", "R", "A, GRPO", "A, RLOO",
        )
    )  # fmt: skip
    rows = "".join(f"<tr>{_reward_cells(found, i, largest)}</tr>" for i in order)
    return (
        f'<table class="rr-rewards"><caption>R<sub>d</sub> is NDCG@{cutoff} of the place, R<sub>c</sub> the softmax'
        f" probability, R = {beta:g}·R<sub>c</sub> + {1 - beta:g}·R<sub>d</sub>; A is R against the group.</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    )


def lesson(found: Rewarded) -> str:
    """What training would make of the group, as a sentence."""
    if len(set(found.fused)) == 1:
        return "All rewards are equal, so every advantage is 0: from this group RecPO would learn nothing about words."
    return "RecPO would make the words with an advantage above 0 likelier, and those below 0 less likely."


def _reward_cells(found: Rewarded, i: int, largest: dict[str, float]) -> str:
    low, high = found.ranks[i]
    place = f"{low}" if low == high else f"{low} to {high}"
    text = (escape(found.texts[i]) or "(nothing)") + ("" if found.finished[i] else " [unfinished]")
    numbers = {
        "place": place,
        "R_d": f"{found.ranking[i]:.3f}",
        "R_c": f"{found.similarity[i]:.4f}",
        "R": f"{found.fused[i]:.3f}",
    }
    cells = [f'<td data-label="{name}">{value}</td>' for name, value in numbers.items()]
    for name, values in found.advantages.items():
        cells.append(f'<td data-label="A, {ADVANTAGE_NAMES[name]}">{_bar(values[i], largest[name])}</td>')
    return f'<th scope="row">{text}</th>{"".join(cells)}'


def _bar(value: float, largest: float) -> str:
    """A number with a bar to its side of 0."""
    side = "rr-plus" if value > 0 else "rr-minus"
    return f'<span class="rr-bar {side}" style="--part: {abs(value) / largest:.3f}"><span>{value:+.3f}</span></span>'


def _percent(share: float) -> str:
    return f"{share:.1%}".replace("%", " %")
