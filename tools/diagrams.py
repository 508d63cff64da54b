"""Draw the book's diagrams into book/_figures: ``python tools/diagrams.py``. Their numbers are computed by the library.

A file holds both themes: where it is shown alone, its colours follow the system's. For the book staging parts it in two
(`stage.themed`), since a page's theme is its reader's choice.
"""

from fractions import Fraction
from html import escape
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import torch
from execute import ROOT

from rrec_lib.book.toy import toy_world
from rrec_lib.core.profiles import load_profile
from rrec_lib.data.examples import next_item_examples, temporal_split
from rrec_lib.evaluation import scoring
from rrec_lib.lab import LabConfig
from rrec_lib.lab import world as lab
from rrec_lib.model.packing import attention_mask
from rrec_lib.recpo import advantages, losses, rewards

FOLDER = ROOT / "book" / "_figures"
WIDTH = 380  # about a phone's column, so that letters keep their size there
# Ground (the page's), letters, quiet letters; then fill and line of each tone: Okabe–Ito's hues, dark or light enough.
LIGHT = {
    "": ("#ffffff", "#1a1a1a", "#555555"),
    "grey": ("#eef1f4", "#6b757f"),
    "blue": ("#dceefa", "#0072B2"),
    "green": ("#dcf3eb", "#00704F"),
    "orange": ("#fde8da", "#B34700"),
    "pink": ("#f8e4f0", "#9A3D78"),
}
DARK = {
    "": ("#121212", "#f0f3f6", "#b4bdc6"),
    "grey": ("#2a323a", "#8b96a1"),
    "blue": ("#16364a", "#7cc4ee"),
    "green": ("#0f3a2e", "#5fd3ae"),
    "orange": ("#47290f", "#ffa763"),
    "pink": ("#442037", "#eaa0cc"),
}
TONES = ("blue", "orange", "pink")  # of reasonings 1, 2 and 3
FORM = """\
text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif;
  font-size: 14px; }
.s { font-size: 12.5px; } .b { font-weight: 600; } .c { text-anchor: middle; } .e { text-anchor: end; }
.m { font-family: ui-monospace, "SFMono-Regular", Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: 12.5px; }
.sub { font-size: 10.5px; } .box { stroke-width: 1.3; } .line { fill: none; stroke-width: 1.8; }
.thick { stroke-width: 2.8; } .dash { stroke-dasharray: 5 4; } .faint { opacity: .3; }"""


def colours(theme: dict[str, tuple[str, ...]]) -> str:
    """Style rules of a theme: ``ground``; a tone for boxes, its ``-l`` for lines, its ``-f`` for letters and tips."""
    ground, ink, quiet = theme[""]
    rules = [f".ground {{ fill: {ground}; }} text, .ink-f {{ fill: {ink}; }} .quiet {{ fill: {quiet}; }}"]
    rules.append(f".ink-l {{ stroke: {ink}; }} .open {{ fill: {ground}; stroke: {quiet}; }}")
    for tone, (fill, line) in list(theme.items())[1:]:
        rules.append(
            f".{tone} {{ fill: {fill}; stroke: {line}; }} .{tone}-l {{ stroke: {line}; }} .{tone}-f {{ fill: {line}; }}"
        )
    return "\n".join(rules)


class Drawing:
    """An SVG that grows; the kinds are style classes."""

    def __init__(self, height: int, title: str, description: str) -> None:
        self.parts: list[str] = []
        self.height, self.title, self.description = height, title, description

    def text(self, x: float, y: float, words: object, kind: str = "") -> None:
        """Letters on a line; the one behind a ``~`` is a subscript."""
        first, *rest = escape(str(words), quote=False).split("~")
        sub = '<tspan class="sub" dy="4">{}</tspan><tspan dy="-4">{}</tspan>'
        self.parts.append(
            f'<text x="{x:g}" y="{y:g}" class="{kind}">{first}{"".join(sub.format(r[0], r[1:]) for r in rest)}</text>'
        )

    def box(self, x: float, y: float, w: float, h: float, kind: str = "grey", words: object = "", style: str = "s c"):
        """A rectangle, with words in its middle."""
        corner = 6 if h > 26 else 3
        self.parts.append(f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="{corner}" class="box {kind}"/>')
        if str(words):
            self.text(x + w / 2, y + h / 2 + 4.5, words, style)

    def path(self, d: str, kind: str = "ink-l") -> None:
        self.parts.append(f'<path d="{d}" class="line {kind}"/>')

    def arrow(self, x: float, y: float, to_x: float, to_y: float, tone: str = "ink") -> None:
        """A straight arrow."""
        length = ((to_x - x) ** 2 + (to_y - y) ** 2) ** 0.5
        u, v = (to_x - x) / length, (to_y - y) / length
        back_x, back_y = to_x - 8 * u, to_y - 8 * v
        self.path(f"M{x:g} {y:g}L{back_x:.5g} {back_y:.5g}", f"{tone}-l")
        left, right = (f"{back_x - side * v:.5g} {back_y + side * u:.5g}" for side in (4.5, -4.5))
        tip = f"M{to_x:g} {to_y:g}L{left} {right}z"
        self.parts.append(f'<path d="{tip}" class="{tone}-f"/>')

    def __str__(self) -> str:
        title, description = (escape(words, quote=False) for words in (self.title, self.description))
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" '
                f'width="480" height="{480 * self.height / WIDTH:.0f}" role="img" aria-labelledby="title desc">',
                f'<title id="title">{title}</title>\n<desc id="desc">{description}</desc>\n<style>\n{FORM}',
                f"{colours(LIGHT)}\n@media (prefers-color-scheme: dark) {{\n{colours(DARK)}\n}}\n</style>",
                f'<rect width="{WIDTH}" height="{self.height}" class="ground"/>',
                *self.parts,
                "</svg>\n",
            ]
        )


def heads() -> Drawing:
    draw = Drawing(
        466,
        "Two heads and the marker",
        "A prompt, the tokens of a reasoning and the marker <answer> go through one decoder. lm_head reads the states "
        "before the marker, each to write the next token. rec_head reads one state, at the marker's last token, and "
        "compares it with the state of every film, read at the same marker: cosine over τ.",
    )
    tokens = [(10, 84, "prompt x~u"), (100, 38, "o~1"), (144, 38, "o~2"), (216, 38, "o~T"), (274, 96, "<answer>")]
    following = ["o~1", "o~2", "…", "<answer>"]
    draw.text(10, 24, "One text: prompt, reasoning, marker", "b")
    for (x, w, word), tone in zip(tokens, ("grey", "blue", "blue", "blue", "orange"), strict=True):
        draw.box(x, 36, w, 30, tone, word, "c m" if tone == "orange" else "c")
        draw.arrow(x + w / 2, 66, x + w / 2, 84)
        draw.arrow(x + w / 2, 122, x + w / 2, 142, "orange" if tone == "orange" else "ink")
    draw.text(199, 56, "…", "c")
    draw.box(10, 86, 360, 36, "grey thick", "one decoder", "b c")
    for (x, w, _), word in zip(tokens[:4], following, strict=True):
        draw.box(x + w / 2 - 17, 144, 34, 26, "open", "h", "c")
        draw.arrow(x + w / 2, 170, x + w / 2, 188)
        draw.arrow(x + w / 2, 224, x + w / 2, 242, "blue")
        draw.text(x + w / 2, 258, word, "c m" if word == "<answer>" else "c")
    draw.box(10, 190, 252, 34, "blue", "lm_head: the next token", "b c")
    draw.box(297, 144, 50, 26, "orange", "h~T", "b c")
    draw.text(322, 192, "the state at", "s c orange-f")
    draw.text(322, 208, "the marker's", "s c orange-f")
    draw.text(322, 224, "last token", "s c orange-f")
    draw.arrow(322, 232, 322, 354, "orange")
    draw.box(10, 278, 252, 54, "green")
    draw.text(136, 300, "item table H~V", "b c")
    draw.text(136, 320, "a state per film, read at <answer>", "s c")
    draw.arrow(136, 332, 136, 354, "green")
    draw.box(10, 356, 360, 38, "green thick")
    draw.text(190, 380, "rec_head: score of film v = cos(h~T, H~V [v]) / τ", "c")
    draw.arrow(190, 394, 190, 414)
    draw.text(190, 433, "the score of every film, and with it", "c")
    draw.text(190, 453, "the rank of the film seen next", "c")
    return draw


def group() -> Drawing:
    toy, profile = toy_world(), load_profile("cpu")
    ends = [*toy.user_states[2].tolist(), [-4.0, 3.0]]  # notebook 05 lets user 3 think a third time
    scores = scoring.score_items(torch.tensor([ends], dtype=torch.float64), toy.item_states, toy.temperature)
    scores = scoring.mask_items(scores, toy.histories[2:], toy.targets[2:])
    target = int(toy.targets[2])
    d = rewards.ranking_reward(scores, toy.targets[2:], profile.reward.ndcg_k)
    c = rewards.similarity_reward(scores, toy.targets[2:])
    r = rewards.fused_reward(d, c, profile.reward.beta)
    rloo, grpo = advantages.rloo_advantages(r)[0].tolist(), advantages.grpo_advantages(r)[0].tolist()
    above = [int((row > row[target]).sum()) for row in scores[0]]
    places = [
        f"{a + 1}" if equal == 1 else f"{a + 1} or {a + equal}"
        for a, equal in zip(above, ((row == row[target]).sum().item() for row in scores[0]), strict=True)
    ]
    best = max(range(3), key=rloo.__getitem__)
    draw = Drawing(
        508,
        "A group, from samples to advantages",
        f"User 3 of the toy world writes three reasonings. The film chosen next, {toy.items[target]}, comes to place "
        f"{places[0]}, {places[1]} and {places[2]}. The rewards R are {', '.join(f'{x:.3f}' for x in r[0])}; each is "
        f"compared with the mean of the others, which gives the RLOO advantages "
        f"{', '.join(_signed(x) for x in rloo)}. They sum to zero.",
    )
    draw.box(10, 10, 360, 50)
    draw.text(190, 31, f"{toy.users[2]} has seen {toy.items[toy.histories[2][0]]}", "c")
    draw.text(190, 50, f"and chose {toy.items[target]} next", "s c quiet")
    middles = [134, 226, 318]
    for number, x in enumerate(middles):
        draw.arrow(190 + 0.5 * (x - 190), 60, x, 82, "blue")
        draw.box(x - 41, 84, 82, 48, "blue")
        draw.text(x, 104, f"reasoning {number + 1}", "s c")
        draw.text(x, 123, "({:g}, {:g})".format(*ends[number]).replace("-", "−"), "c")
        draw.arrow(x, 132, x, 152)
        draw.text(x, 171, places[number], "c b")
        for y, values in ((205, d[0]), (233, c[0])):
            draw.text(x, y, f"{values[number]:.3f}", "c")
        draw.box(x - 34, 249, 68, 30, "orange", f"{r[0, number]:.3f}", "b c")
        draw.arrow(x, 279, x, 299)
        tone, height = ("green", 90 * rloo[number]) if rloo[number] > 0 else ("orange", 90 * rloo[number])
        draw.box(x - 20, 370 - max(height, 0), 40, abs(height), tone)
        draw.text(x, 342 if height > 0 else 370 - height + 19, _signed(rloo[number]), "c b")
        draw.text(x, 453, _signed(grpo[number]), "c")
    for y, label in ((112, "sampled"), (163, toy.items[target]), (179, "at place")):
        draw.text(10, y, label, "s quiet")
    for y, label in ((205, "R~d"), (233, "R~c"), (269, "R")):
        draw.text(10, y, label, "b")
    draw.text(40, 205, "rank", "s quiet")
    draw.text(40, 233, "softmax", "s quiet")
    draw.text(40, 269, "both", "s quiet")
    draw.text(10, 318, "A: R minus the mean of the other two", "b")
    draw.path("M90 370H362")
    draw.text(10, 374, "RLOO", "s quiet")
    draw.text(10, 453, "A by GRPO", "s quiet")
    draw.text(190, 480, f"R = β R~c + (1 − β) R~d with β = {profile.reward.beta:g}. All three train their", "s c quiet")
    draw.text(190, 497, f"tokens; reasoning {best + 1}, the best, the ranking too.", "s c quiet")
    return draw


def _signed(x: float) -> str:
    return f"{x:+.2f}".replace("-", "−")


def clip() -> Drawing:
    eps = load_profile("cpu").training.clip_eps
    low, high = 1 - eps, 1 + eps
    draw = Drawing(
        420,
        "The clip",
        f"Gain against the ratio of new to old probability, with ε = {eps:g}. For a good token, A = 1, the gain rises "
        f"until {high:g} and is flat above: raised enough, no gradient. For a bad token, A = −1, it falls with the "
        f"ratio from {low:g} on and is flat below: lowered enough. On the other side the line goes on.",
    )
    for top, a in ((0, 1.0), (210, -1.0)):
        start, stop = (0.4, 1.6)

        def at(ratio: float, top: int = top, a: float = a) -> str:
            gain = losses.clipped_gain(torch.tensor(ratio), torch.tensor(a), eps, eps)[0].item()
            return point(ratio, gain, top, a)

        draw.text(10, top + 24, f"A = {a:+g}: ".replace("-", "−") + ("a good token" if a > 0 else "a bad token"), "b")
        left, right = clip_x(low), clip_x(high)
        draw.parts.append(f'<rect x="{left:g}" y="{top + 36}" width="{right - left:g}" height="126" class="grey" '
                          'style="stroke:none"/>')  # fmt: skip
        draw.path(f"M{clip_x(start):g} {top + 162}H{clip_x(stop):g}")
        for ratio in (start, low, 1, high, stop):
            draw.path(f"M{clip_x(ratio):g} {top + 162}v5")
            draw.text(clip_x(ratio), top + 181, f"{ratio:g}", "s c")
        kept = (start, high) if a > 0 else (low, stop)
        cut = (high, stop) if a > 0 else (start, low)
        draw.path(f"M{point(cut[0], cut[0] * a, top, a)}L{point(cut[1], cut[1] * a, top, a)}", "grey-l dash")
        draw.path(f"M{at(kept[0])}L{at(kept[1])}", "blue-l thick")
        draw.path(f"M{at(cut[0])}L{at(cut[1])}", "orange-l thick")
        if a > 0:
            draw.text(365, top + 106, "flat: no gradient,", "s e orange-f")
            draw.text(365, top + 122, "raised enough", "s e orange-f")
            draw.text(58, top + 90, "gradient A,", "s blue-f")
            draw.text(58, top + 106, "also if it fell", "s blue-f")
        else:
            draw.text(58, top + 106, "flat: no gradient,", "s orange-f")
            draw.text(58, top + 122, "lowered enough", "s orange-f")
            draw.text(365, top + 58, "gradient A,", "s e blue-f")
            draw.text(365, top + 74, "also if it rose", "s e blue-f")
        draw.text(34, top + (136 if a > 0 else 60), "gain", "s c quiet")
    draw.text(clip_x(1), 200, f"ratio r = new / old probability; grey: 1 ± {eps:g}", "s c quiet")
    draw.text(clip_x(1), 410, "gain = min(r A, clip(r, 1 − ε, 1 + ε) A)", "c")
    return draw


def clip_x(ratio: float) -> float:
    return 58 + (ratio - 0.4) * 255


def point(ratio: float, gain: float, top: int, a: float) -> str:
    y = top + 162 - 95 * (gain - (0.35 if a > 0 else -1.65))
    return f"{clip_x(ratio):.5g} {y:.5g}"


PROMPT, PACKED, WRITTEN = 4, (3, 2, 3), (3, 2, 4)  # tokens of the prompt, and of three reasonings, in two pictures


def packed_row() -> tuple[list[int], list[int]]:
    """Who owns each token of a packed row (0 the prompt, −1 padding), and its position."""
    width = max(PACKED)
    owner = [0] * PROMPT + [g if t < size else -1 for g, size in enumerate(PACKED, 1) for t in range(width)]
    return owner, [*range(PROMPT), *[PROMPT + t for _ in PACKED for t in range(width)]]


def seen(owner: list[int], positions: list[int]) -> list[list[bool]]:
    """Which token sees which, as the library masks."""
    model = SimpleNamespace(config=SimpleNamespace(_attn_implementation="sdpa"))
    who, where = torch.tensor([owner]), torch.tensor([positions])
    return attention_mask(model, who, where, who, where)[0, 0].tolist()  # type: ignore[arg-type]


def tone_of(owner: int) -> str:
    return {0: "grey", -1: "open"}.get(owner) or TONES[owner - 1]


def packing() -> Drawing:
    owner, positions = packed_row()
    mask, n, width = seen(owner, positions), len(owner), max(PACKED)
    apart = len(PACKED) * (PROMPT + width)
    draw = Drawing(
        468,
        "Packing and its block mask",
        f"A prompt of {PROMPT} tokens and {len(PACKED)} reasonings of {PACKED[0]}, {PACKED[1]} and {PACKED[2]} tokens "
        f"stand in one row of {n} places; one is padding. Each reasoning's positions go on from {PROMPT}. The mask "
        "lets a token see the prompt and its own reasoning, up to itself, and no other reasoning. Separate rows would "
        f"take {apart} places.",
    )
    x0, y0, cell = 78, 100, 22
    draw.text(10, 24, "One row: the prompt, then G reasonings", "b")
    draw.text(x0 - 8, 56, "row", "s e quiet")
    draw.text(x0 - 8, 84, "position", "s e quiet")
    for column, (who, position) in enumerate(zip(owner, positions, strict=True)):
        x = x0 + cell * column
        draw.box(x, 40, cell - 2, 22, tone_of(who), "·" if who < 0 else "p" if who == 0 else who)
        draw.text(x + cell / 2 - 1, 84, position, "s c")
        draw.box(x0 - 26, y0 + cell * column, cell - 2, cell - 2, tone_of(who), "·" if who < 0 else who or "p")
        for key in range(n):
            if who >= 0:
                sees = mask[column][key]
                draw.box(x0 + cell * key, y0 + cell * column, cell - 2, cell - 2,
                         tone_of(owner[key]) if sees else "open faint")  # fmt: skip
    draw.text(10, y0 + 15, "sees", "s quiet")
    draw.text(10, y0 + 31, "what?", "s quiet")
    end = y0 + cell * n
    draw.text(190, end + 24, "filled: the token on the left sees the one above", "s c quiet")
    draw.text(190, end + 42, "p prompt · 1 2 3 reasonings · a dot is padding", "s c quiet")
    draw.text(190, end + 66, f"One row: {n} places. Apart: {len(PACKED)} × {PROMPT + width} = {apart}.", "c")
    return draw


def cache_row() -> tuple[list[int], list[int], list[int]]:
    """Owner, position and step of every token in the cache, when all are written: step by step, side by side."""
    written = [(g, t) for t in range(max(WRITTEN)) for g, size in enumerate(WRITTEN, 1) if t < size]
    owner = [0] * PROMPT + [g for g, _ in written]
    return owner, [*range(PROMPT), *[PROMPT + t for _, t in written]], [0] * PROMPT + [t + 1 for _, t in written]


def cache() -> Drawing:
    owner, positions, steps = cache_row()
    apart = sum(PROMPT + size for size in WRITTEN)
    looking = max(i for i, who in enumerate(owner) if who == 1)
    mask = seen(owner, positions)[looking]
    draw = Drawing(
        408,
        "Rollouts in one row of the cache",
        f"The keys and values of a prompt of {PROMPT} tokens stand in the cache once. At every step each unfinished "
        f"reasoning of the group adds a token to the same row, side by side: {WRITTEN[0]}, {WRITTEN[1]} and "
        f"{WRITTEN[2]} tokens in the end, {len(owner)} places, where separate rows would take {apart}. A token sees "
        "the prompt and its own reasoning only.",
    )
    x0, cell = 72, 23
    draw.text(10, 24, "A user's row of the cache, step by step", "b")
    for step in range(max(steps) + 1):
        y = 40 + 32 * step
        draw.text(x0 - 8, y + 16, f"step {step}" if step else "prompt", "s e quiet")
        for column, (who, when) in enumerate(zip(owner, steps, strict=True)):
            if when <= step:
                ends = who > 0 and positions[column] == PROMPT + WRITTEN[who - 1] - 1
                kind = tone_of(who) + (" thick" if ends else "")
                draw.box(x0 + cell * column, y, cell - 3, 23, kind, who or "p", "s c" + (" b" if when == step else ""))
                if when < step:
                    draw.parts[-2:] = [f'<g opacity=".6">{"".join(draw.parts[-2:])}</g>']
    bottom = 40 + 32 * (max(steps) + 1)
    draw.text(x0 - 8, bottom + 12, "position", "s e quiet")
    for column, position in enumerate(positions):
        draw.text(x0 + cell * column + 10, bottom + 12, position, "s c")
    draw.text(10, bottom + 46, f"What reasoning 1 sees at step {steps[looking]}", "b")
    for column, who in enumerate(owner[: looking + 1]):
        draw.box(x0 + cell * column, bottom + 58, cell - 3, 23, tone_of(who) if mask[column] else "open dash",
                 (who or "p") if mask[column] else "")  # fmt: skip
    draw.arrow(x0 + cell * looking + 10, bottom + 102, x0 + cell * looking + 10, bottom + 85, "blue")
    draw.text(x0 + cell * looking + 22, bottom + 102, "this one", "s blue-f")
    draw.text(190, bottom + 128, "p prompt · 1 2 3 reasonings · thick: the marker, its end", "s c quiet")
    draw.text(190, bottom + 152, f"One row: {len(owner)} places. Apart: {apart}.", "c")
    draw.text(190, bottom + 174, "Who has finished adds nothing more.", "c")
    draw.height = bottom + 190
    return draw


LOG = [(1, 1, 5.0, 1), (1, 2, 4.0, 2), (1, 3, 2.0, 3), (1, 4, 5.0, 4), (2, 4, 4.0, 3), (2, 3, 5.0, 5), (2, 2, 4.0, 5),
       (2, 5, 4.0, 9), (3, 6, 5.0, 6), (3, 5, 5.0, 8), (3, 4, 3.0, 9), (3, 3, 4.0, 10)]  # fmt: skip
WINDOW = 2  # notebook 02's, as its log is


def split() -> Drawing:
    log = pd.DataFrame(LOG, columns=["user_id", "item_id", "rating", "timestamp"])
    examples = next_item_examples(log, window=WINDOW, min_target_rating=4.0)
    part = temporal_split(examples["target_timestamp"])
    counts = [int((part == number).sum()) for number in range(3)]
    keys = zip(examples["user_id"], examples["target"], strict=True)
    where = dict(zip(keys, part.tolist(), strict=True))
    days = examples["target_timestamp"].to_numpy()
    cuts = [(days[part == number].max() + days[part == number + 1].min()) / 2 for number in (0, 1)]
    last = examples[part == 2].iloc[-1]
    draw = Drawing(
        376,
        "The split by time",
        f"The toy log: three users, {len(LOG)} ratings, {len(examples)} targets. Two moments, after day "
        f"{days[part == 0].max()} and after day {days[part == 1].max()}, part everybody's targets: {counts[0]} for "
        f"training, {counts[1]} for validation, {counts[2]} for the test. The test target is user {last['user_id']}'s "
        f"item {last['target']}; its history is what the same user rated before, here the last {WINDOW}.",
    )

    def x(day: float) -> float:
        return 70 + (day - 1) * 31

    edges = [x(0.45), *(x(cut) for cut in cuts), 370]
    for number, (name, tone) in enumerate((("train", "blue"), ("valid", "pink"), ("test", "orange"))):
        draw.parts.append(
            f'<rect x="{edges[number]:g}" y="34" width="{edges[number + 1] - edges[number]:g}" height="206" '
            f'class="{tone}" style="stroke:none"/>'
        )
        draw.text((edges[number] + edges[number + 1]) / 2, 26, name, f"c s b {tone}-f")
    for edge in edges[1:3]:
        draw.path(f"M{edge:g} 34V246", "ink-l dash")
    for user in (1, 2, 3):
        y = 6 + 64 * user
        draw.text(10, y + 5, f"user {user}", "s")
        draw.path(f"M{edges[0]:g} {y}H370", "grey-l")
        for _, item, rating, day in (row for row in LOG if row[0] == user):
            twins = [row for row in LOG if row[0] == user and row[3] == day]
            at = y + (0 if len(twins) == 1 else 13 if twins[0][1] == item else -13)
            target = where.get((user, item))
            kind = "open" if target is None else ("blue", "pink", "orange")[target] + " thick"
            draw.parts.append(f'<circle cx="{x(day):g}" cy="{at}" r="11" class="box {kind}"/>')
            draw.text(x(day), at + 4.5, item, "s c" + (" b" if target is not None else ""))
            if rating < 4:
                draw.path(f"M{x(day) - 9:g} {at + 18}h18", "ink-l")
    for day in range(1, 11):
        draw.text(x(day), 258, day, "s c quiet")
    draw.text(10, 258, "day", "s quiet")
    earlier = [row[3] for row in LOG if row[0] == last["user_id"] and row[1] in list(last["history"])]
    left, right = x(min(earlier)) - 12, x(max(earlier)) + 12
    draw.path(f"M{left:g} 222v8H{right:g}v-8", "orange-l")
    draw.text(left - 6, 235, "history of the test target", "s e")
    for i, line in enumerate((
        "thick ring: a target · thin ring: history only",
        "(disliked, underlined, or with nothing before it)",
    )):  # fmt: skip
        draw.text(190, 284 + 17 * i, line, "s c quiet")
    draw.text(190, 328, f"Two moments for everybody: {' : '.join(map(str, counts))} targets.", "c")
    draw.text(190, 349, "No model is trained on what comes later", "c")
    draw.text(190, 369, "than a target it is tested on.", "c")
    draw.height = 382
    return draw


def lab_world() -> Drawing:
    config = LabConfig(**load_profile("cpu").lab)
    world = lab.make_world(config.world_seed, config.train_users, config.valid_users, config.test_users)
    history, target = world.test.histories[0], int(world.test.targets[0])
    tallies = lab.as_text(lab.write_tallies(world, world.test.histories[:1])[0]).split()
    class_, slot = int(world.classes[target]), int(world.slots[target])
    base = lab.BASE
    draw = Drawing(
        474,
        "The lab's world",
        f"Somebody took items {', '.join(f'#{i}' for i in history.tolist())}. Each has a hidden class and a hidden "
        f"slot. The reasoning keeps running sums modulo {base}: {' '.join(tallies)}. Class {class_} and slot {slot} "
        f"name one of {lab.N_ITEMS} items: #{target} is next. Who knows nothing hits 1 in {lab.N_ITEMS}, who has the "
        f"class 1 in {base}, who has both is always right.",
    )
    draw.text(10, 24, "Four items, each with a hidden class and slot", "b")
    labels = ("item", "class", "slot", "class so far", "slot so far")
    for label, y in zip(labels, (56, 88, 116, 166, 200), strict=True):
        draw.text(10, y, label, "s quiet")
    for number, item in enumerate(history.tolist()):
        x = 98 + 70 * number
        draw.box(x, 38, 60, 28, "green", f"#{item}", "c b")
        draw.text(x + 30, 88, int(world.classes[item]), "c")
        draw.text(x + 30, 116, int(world.slots[item]), "c")
        for y, tally in ((148, tallies[number]), (182, tallies[lab.HISTORY + number])):
            draw.box(x + 8, y, 44, 26, "blue" if y == 148 else "pink", tally, "m c")
            if number:
                draw.arrow(x - 17, y + 13, x + 7, y + 13, "blue" if y == 148 else "pink")
    draw.text(10, 139, f"the reasoning: running sums, modulo {base}", "s b")
    x0, y0, cell = 42, 252, 21
    draw.path("M360 161H370V220H316M338 208V220")
    draw.arrow(316, 220, 316, y0 + 20)
    draw.text(x0 + cell * base / 2, y0 - 24, "slot", "s c quiet")
    draw.text(x0 - 5, y0 - 6, "class", "s e quiet")
    for row in range(base):
        draw.text(x0 + cell * row + 9.5, y0 - 6, row, "s c quiet")
        draw.text(x0 - 14, y0 + cell * row + 15, row, "s e quiet")
        for column in range(base):
            both = (row, column) == (class_, slot)
            kind = "orange thick" if both else "blue" if row == class_ else "pink" if column == slot else "open"
            draw.box(x0 + cell * column, y0 + cell * row, cell - 2, cell - 2, kind, target if both else "", "s c b")
    right = x0 + cell * base + 14
    draw.box(right, y0 + 22, 146, 44, "orange thick", f"next: #{target}", "c b")
    for i, (who, chance) in enumerate((
        ("nothing", Fraction(1, base * base)), ("the class", Fraction(1, base)), ("both sums", Fraction(1)),
    )):  # fmt: skip
        draw.text(right, y0 + 116 + 21 * i, f"{who}:", "s")
        draw.text(right + 146, y0 + 116 + 21 * i, chance, "b e")
    draw.text(right, y0 + 93, "who knows … hits", "s quiet")
    draw.text(190, 446, f"Any three of the four leave all {lab.N_ITEMS} items as likely as", "s c quiet")
    draw.text(190, 463, "before: counts of the past are worth nothing.", "s c quiet")
    return draw


LENGTHS = (4, 3, 2, 3, 3, 2)  # notebook 08's tokens of the toy world's six trajectories


def broadcast() -> Drawing:
    toy, profile = toy_world(), load_profile("cpu")
    scores = scoring.score_items(toy.user_states, toy.item_states, toy.temperature)
    scores = scoring.mask_items(scores, toy.histories, toy.targets)
    d = rewards.ranking_reward(scores, toy.targets, profile.reward.ndcg_k)
    r = rewards.fused_reward(d, rewards.similarity_reward(scores, toy.targets), profile.reward.beta)
    a = advantages.rloo_advantages(r).flatten()
    n, width = len(a), max(LENGTHS)
    product = a[:, None, None] * torch.ones(n, width, dtype=a.dtype)
    own, mean = (a[:, None] * torch.ones(n, width, dtype=a.dtype)).tolist(), (product.sum(0) / n + 0.0).tolist()
    draw = Drawing(
        560,
        "One axis too many: the broadcast",
        f"Six trajectories with advantages {', '.join(_signed(x) for x in a.tolist())}. In the paper each token's "
        f"weight is its own trajectory's. In the official code advantages of shape ({n}, 1, 1) meet ratios of "
        f"shape ({n}, {width}); the product has shape ({n}, {n}, {width}): one sheet per advantage, each over all "
        "tokens. Their mean is 0, and the tokens learn nothing.",
    )
    cell, x0 = 23, 150
    draw.text(10, 24, "The paper: a token meets its own advantage", "b")
    draw.text(48, 50, "A", "b c")
    draw.text(48, 67, f"({n}, 1)", "s c quiet")
    draw.text(x0 + 104, 50, "weight of each token", "b c")
    draw.text(x0 + 104, 67, f"({n}, {width})", "s c quiet")
    for i, value in enumerate(a.tolist()):
        y = 76 + cell * i
        draw.box(16, y, 64, cell - 3, _tone(value), _signed(value))
        for t in range(LENGTHS[i]):
            draw.box(x0 + 52 * t, y, 49, cell - 3, _tone(own[i][t]), _signed(own[i][t]))
    draw.arrow(92, 145, 138, 145)
    top = 256
    draw.path(f"M10 {top - 26}H370", "grey-l")
    draw.text(10, top, "The official code: it meets all six", "b")
    draw.text(10, top + 20, f"({n}, 1, 1) × ({n}, {width}) gives ({n}, {n}, {width}): {n} sheets", "s quiet")
    for j, value in enumerate(a.tolist()):
        x = 10 + 61 * j
        draw.text(x + 27, top + 45, _signed(value), "s c")
        for i, length in enumerate(LENGTHS):
            for t in range(length):
                draw.box(x + 13.5 * t, top + 54 + 12 * i, 12, 10, _tone(value))
    draw.arrow(190, top + 130, 190, top + 154)
    draw.text(202, top + 146, f"mean of the {n} sheets", "s")
    draw.text(138, top + 184, "weight of", "b e")
    draw.text(138, top + 202, "each token", "b e")
    for i, length in enumerate(LENGTHS):
        for t in range(length):
            value = mean[i][t]
            draw.box(x0 + 52 * t, top + 164 + cell * i, 49, cell - 3, "grey", f"{value:.2f}")
    draw.text(138, top + 228, "all the same,", "s e quiet")
    draw.text(138, top + 245, "and 0 where", "s e quiet")
    draw.text(138, top + 262, "groups are", "s e quiet")
    draw.text(138, top + 279, "whole", "s e quiet")
    draw.height = top + 164 + cell * n + 12
    return draw


def _tone(value: float) -> str:
    return "green" if value > 0 else "orange"


DIAGRAMS = {
    "heads": heads,
    "group": group,
    "clip": clip,
    "packing": packing,
    "cache": cache,
    "split": split,
    "lab": lab_world,
    "broadcast": broadcast,
}


def main(folder: Path = FOLDER) -> None:
    for name, draw in DIAGRAMS.items():
        (folder / f"{name}.svg").write_text(str(draw()), encoding="utf-8")


if __name__ == "__main__":
    main()
