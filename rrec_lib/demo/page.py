"""The page: Gradio's components around a desk, served to this machine alone and with nothing from any other.

Importing it needs Gradio (`make demo-env`); what it shows and asks comes from ``desk`` and ``cards``, which don't.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from functools import wraps
from html import escape
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # Gradio reads it when it is imported

import gradio as gr

from rrec_lib.core.console import say
from rrec_lib.core.profiles import Profile
from rrec_lib.demo import cards
from rrec_lib.demo.desk import LISTED, LONGEST, MOST_SAMPLES, Desk, History, open_desk

HERE = Path(__file__).parent
ADDRESS = "127.0.0.1"
OTHERS = 1000  # number of the first user whose words are borrowed: apart from those whose history is shown
WEIGHTS = {
    "recpo": "trained by RecPO",
    "warmup": "after the warm-up",
    "base": "as published: its lists mean little until you train an adapter for these data (rrec train)",
}
Updates = Iterator[dict[Any, Any]]


def picker_of(desk: Desk, label: str, most: int, name: str) -> gr.HTML:
    """A field that completes titles, and the films chosen with it; ``picker.js`` is what moves in ``picker.html``."""

    def complete(text: str) -> list[dict[str, Any]]:
        return desk.complete(text)

    markup, script = ((HERE / f"picker.{kind}").read_text(encoding="utf-8") for kind in ("html", "js"))
    field = markup.format(kind="rr-many" if most > 1 else "", label=escape(label), hint="Type a title")
    return gr.HTML([], html_template=field, js_on_load=script, apply_default_css=False, most=most,
                   server_functions=[complete], elem_id=name, min_width=320)  # fmt: skip


def spoken(note: Any) -> Callable[[Callable[..., Updates]], Callable[..., Updates]]:
    """A decorator that turns a mistake into a sentence in ``note``."""

    def decorate(work: Callable[..., Updates]) -> Callable[..., Updates]:
        @wraps(work)
        def run(*inputs: Any) -> Updates:
            try:
                yield from work(*inputs)
            except (ValueError, OSError, RuntimeError) as problem:
                yield {note: cards.note(" ".join(str(problem).split()), mistake=True)}

        return run

    return decorate


def build(desk: Desk) -> gr.Blocks:
    """The whole page."""
    with gr.Blocks(title="Talk to the recommender", analytics_enabled=False) as page:
        gr.HTML(_head(desk), apply_default_css=False, elem_classes="rr-head")
        picker, words, draw = _writing(desk)
        _comparing(desk, picker)
        target = _rewarding(desk, picker)
        _starting(desk, [page.load, draw.click], [picker, target, words])
    return page


def _writing(desk: Desk) -> tuple[gr.HTML, gr.Textbox, gr.Button]:
    """History, prompt, words and list."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=320):
            _part("1 · A history", f"The model reads the last {desk.profile.data.window}, oldest first.")
            picker = picker_of(desk, f"Add a {desk.kind}", 99, "history")
            with gr.Row():
                write = gr.Button("Write and rank", variant="primary", elem_id="write")
                draw = gr.Button("Somebody's history", elem_id="draw")
            with gr.Accordion("The prompt, as the model reads it", open=False):
                prompt = _shown("prompt")
        with gr.Column(scale=7, min_width=320):
            _part("2 · Its words, then its list", "Change the words and rank again: the list is read off behind them.")
            words = gr.Textbox(label="Reasoning", lines=3, max_length=LONGEST, interactive=True, elem_id="words",
                               placeholder="What the model writes; or write yourself.")  # fmt: skip
            again = gr.Button("Rank again behind these words", elem_id="again")
            note, shelf = _shown("note"), _shown("shelf")
    outputs = [note, prompt, words, shelf]

    @spoken(note)
    def written(chosen: Any) -> Updates:
        history, start, first = desk.history(chosen), time.perf_counter(), 0.0
        yield {note: cards.note("It reads …"), words: "", shelf: ""}
        for piece in desk.write(history):
            if isinstance(piece, str):
                first = first or (time.perf_counter() - start if piece else 0.0)
                yield {words: piece}
                continue
            seconds = f"first word after {first:.1f} s, list after {time.perf_counter() - start:.1f} s"
            ended = "It wrote" if piece.finished else "It was stopped before it had finished"
            yield {
                note: cards.note(f"{ended}: {seconds}. Shares are of all {_left(desk, history)} that were not seen."),
                words: piece.text,
                shelf: cards.cards(piece, desk.items),
                prompt: cards.prompt(desk.prompt(history)),
            }

    @spoken(note)
    def ranked(chosen: Any, text: str) -> Updates:
        listed = desk.rank_again(desk.history(chosen), text or "")
        behind = "your words" if listed.text else "no words: the marker follows the prompt at once"
        yield {note: cards.note(f"Ranked behind {behind}."), shelf: cards.cards(listed, desk.items)}

    _on(write.click, written, [picker], outputs, note)
    _on(again.click, ranked, [picker, words], outputs, note)
    return picker, words, draw


def _comparing(desk: Desk, picker: gr.HTML) -> None:
    """Own words, none, and somebody else's."""
    with gr.Column(elem_classes="rr-section"):
        _part("3 · Do the words matter?", "The same history, ranked behind the model's own words, behind none, and "
              "behind what it writes about another user of the test set.")  # fmt: skip
        number = gr.State(OTHERS)
        with gr.Row():
            compare = gr.Button("Compare", variant="primary", elem_id="compare")
            another = gr.Button("With yet another user", elem_id="another")
        note, shown = _shown("compare-note"), _shown("compared")

    @spoken(note)
    def compared(chosen: Any, at: int) -> Updates:
        history = desk.history(chosen)
        yield {note: cards.note("It writes twice …"), number: at}
        for piece in desk.compare(history, desk.drawn(at)[0]):
            if isinstance(piece, list):
                yield {shown: cards.comparing(piece)}
            else:
                yield {note: cards.note(cards.shared(piece)), shown: cards.compared(piece, desk.items)}

    @wraps(compared)
    def other(chosen: Any, at: int) -> Updates:
        yield from compared(chosen, at + 1)

    _on(compare.click, compared, [picker, number], [note, shown, number], note)
    _on(another.click, other, [picker, number], [note, shown, number], note)


def _rewarding(desk: Desk, picker: gr.HTML) -> gr.HTML:
    """What RecPO makes of a group of reasonings."""
    settings = desk.profile
    with gr.Column(elem_classes="rr-section"):
        _part("4 · What RecPO makes of it", f"Name the {desk.kind} that was really seen next. The model writes a "
              "group of reasonings, and each is worth as much as its list is right.")  # fmt: skip
        with gr.Row(equal_height=False):
            target = picker_of(desk, f"The {desk.kind} seen next", 1, "target")
            count = gr.Slider(2, MOST_SAMPLES, min(settings.rollouts.group_size, MOST_SAMPLES), step=1, elem_id="count",
                              min_width=320, label="Reasonings in the group, G")  # fmt: skip
        seed = gr.State(0)
        sample = gr.Button("Sample a group and reward it", variant="primary", elem_id="sample")
        note, shown = _shown("reward-note"), _shown("rewarded")

    @spoken(note)
    def rewarded(chosen: Any, wanted: Any, size: float, number: int) -> Updates:
        history, row = desk.history(chosen), desk.target(wanted)
        yield {note: cards.note(f"It writes {int(size)} reasonings …"), seed: number + 1}
        for piece in desk.reward(history, row, int(size), number):
            if isinstance(piece, list):
                yield {shown: cards.sampling(piece)}
                continue
            reward, name = settings.reward, desk.named(row)["name"]
            yield {note: cards.note(cards.lesson(piece)),
                   shown: cards.rewarded(piece, reward.beta, reward.ndcg_k, name)}  # fmt: skip

    _on(sample.click, rewarded, [picker, target, count, seed], [note, shown, seed], note)
    return target


def _starting(desk: Desk, events: list[Any], outputs: list[Any]) -> None:
    """The page opens with somebody's history and what came next, and gives another one for a click."""
    number = gr.State(0)

    def drawn(at: int) -> tuple[Any, ...]:
        history, following = desk.drawn(at)
        films = [desk.named(row, rating) for row, rating in zip(history.rows, history.ratings, strict=True)]
        return films, [desk.named(following)], "", at + 1

    for event in events:
        event(drawn, [number], [*outputs, number], queue=False, show_progress="hidden", api_visibility="private")


def _on(event: Any, work: Callable[..., Updates], inputs: list[Any], outputs: list[Any], note: Any) -> None:
    """One event at a time, whichever tab it comes from."""
    event(work, inputs, outputs, concurrency_id="model", concurrency_limit=1, show_progress="minimal",
          show_progress_on=note, api_visibility="private")  # fmt: skip


def _shown(name: str) -> gr.HTML:
    return gr.HTML("", apply_default_css=False, js_on_load=None, elem_id=name)


def _part(title: str, text: str) -> None:
    gr.HTML(f"<h2>{escape(title)}</h2><p>{escape(text)}</p>", apply_default_css=False, elem_classes="rr-part")


def _head(desk: Desk) -> str:
    films = f"{len(desk.items):,} {desk.kind}s"
    return (
        f"<h1>Talk to the recommender</h1><p>{escape(desk.profile.model.name)}, {WEIGHTS[desk.films.stage]}; {films}. "
        f"It writes about a person, and the state behind its last word ranks the {desk.kind}s. All of it happens on "
        f"this machine. Of each list you see the first {LISTED}.</p>"
    )


def _left(desk: Desk, history: History) -> str:
    return f"{len(desk.items) - len(set(history.rows)):,} {desk.kind}s"


def _theme() -> gr.themes.Base:
    """Gradio's plain theme with the system's own fonts: any other would be fetched."""
    plain = gr.themes.Base(
        primary_hue="blue",
        neutral_hue="slate",
        font=["system-ui", "Segoe UI", "Roboto", "Liberation Sans", "Arial", "sans-serif"],
        font_mono=["ui-monospace", "Menlo", "Consolas", "monospace"],
    )
    readable = {"button_primary_background_fill": "*primary_700", "block_label_text_color": "*neutral_700"}
    dark = {"button_primary_background_fill_dark": "*primary_700", "block_label_text_color_dark": "*neutral_200"}
    return plain.set(**readable, **dark)


def serve(profile: Profile, stage: str = "recpo", seed: int = 0, port: int | None = None) -> None:
    """Open a desk and serve its page until Ctrl+C; in a notebook it shows in Gradio's frame.

    Args:
        profile, stage, seed: see :func:`rrec_lib.demo.desk.open_desk`.
        port: the first free one from 7860 on if not given.

    Raises:
        OSError: if the port is taken.
    """
    start = time.monotonic()
    say("loading the data and the model ...")
    with open_desk(profile, stage, seed) as desk:
        page = build(desk).queue(default_concurrency_limit=1)
        os.environ["NO_PROXY"] = os.environ["no_proxy"] = ",".join(
            filter(None, [os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), ADDRESS])
        )
        _, address, _ = page.launch(
            server_name=ADDRESS, server_port=port, share=False, prevent_thread_lock=True, quiet=True, footer_links=[],
            run_history=False, enable_monitoring=False, mcp_server=False, ssr_mode=False, pwa=False, theme=_theme(),
            head=f"<style>{(HERE / 'page.css').read_text(encoding='utf-8')}</style>",  # css_paths= rewrites selectors
        )  # fmt: skip
        print(f"ready after {time.monotonic() - start:.0f} s: {address} (Ctrl+C ends it)", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("closed")
        finally:
            page.close(verbose=False)
