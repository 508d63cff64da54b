"""Bring the README up to the last `make book`: times, main figure and its caption, picture of the book.

`make readme`, after `make book`. Times come from the executed notebooks, figure and table from the recorded runs that
the page "Does it work?" shows; tests keep what the README says equal to what is in results/.
"""

import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from execute import ROOT, BuildError, by_row, record_times

from rrec_lib.evaluation.compare import Arm, arm_interval, compare
from rrec_lib.experiments.reference import ARMS, METRIC, WITH, WITHOUT, reference_arms, tuned_baselines
from rrec_lib.experiments.tables import baseline_intervals, reference_figure
from rrec_lib.experiments.verdict import TARGETS, beside_baseline, spent_by, verdict_arms

FIGURES = "book/_figures"
PLACE = "movielens-cpu"
PLAIN = ("co-occurrence", "popularity", "chance")  # nothing to tune, or known to everybody


def replace_section(text: str, name: str, content: str) -> str:
    """Put ``content`` between the comments ``name:start`` and ``name:end``.

    Raises:
        BuildError: if the text has no such section.
    """
    pattern = re.compile(rf"(<!-- {name}:start -->\n).*?(<!-- {name}:end -->)", re.DOTALL)
    if not pattern.search(text):
        raise BuildError(
            f"README.md has no section {name!r}: put `<!-- {name}:start -->` and `<!-- {name}:end -->` back"
        )
    return pattern.sub(lambda match: f"{match[1]}{content}\n{match[2]}", text)


def times_section(recorded: dict[str, Any]) -> str:
    """The table of the `cpu` profile from the contents of results/times.json."""
    notebooks = recorded["cpu"]["notebooks"]
    seconds = sum(times["seconds"] for times in notebooks.values())
    peak = max(times["peak_mb"] for times in notebooks.values())
    rows = [
        f"| {name} | {t['seconds']:.0f} s | {t['peak_mb'] / 1000:.1f} GB |"
        for name, t in by_row(dict(sorted(notebooks.items()))).items()
    ]
    unmeasured = " and ".join(f"`{name}`" for name in ("t4", "paper") if name not in recorded)
    return "\n".join(
        [
            "| notebook, `cpu` profile | time | peak memory |",
            "|---|---|---|",
            *rows,
            f"| whole book, one after the other | {seconds / 60:.0f} min | {peak / 1000:.1f} GB |",
            "",
            f"Recorded run on {recorded['cpu']['device']} (`results/times.json`), after installation.",
            *([f"{unmeasured}: not measured yet."] if unmeasured else []),
        ]
    )


def recorded_section(root: Path = ROOT) -> str:
    """The table of the reference run on MovieLens, with the baselines that people know, and what reasoning is worth."""
    arms, baselines = reference_arms(PLACE, root), tuned_baselines(PLACE, root)
    shown = [(label, arms.get(arm)) for arm, label in ARMS.items()]
    shown += [(f"{report.name}, tuned on valid", [report]) for report in baselines[:2]]
    shown += [(report.name, [report]) for report in baselines if report.name in PLAIN]
    rows = [f"| {label} | {_runs(arm)} | {_ndcg(arm)} |" for label, arm in shown]
    words = [""] if WITH in arms else []
    if WITH in arms and WITHOUT in arms:
        words.append(f"R²ec with reasoning against without: {compare(arms[WITH], arms[WITHOUT], METRIC).sentence}.")
    if WITH in arms and baselines:
        against = compare(arms[WITH], baselines[:1], METRIC).sentence
        words.append(f"With reasoning against {baselines[0].name}: {against}.")
    words += _second_trial(root)
    return "\n".join(["| | runs | NDCG@20 |", "|---|---|---|", *rows, *words])


def _second_trial(root: Path) -> list[str]:
    beside = beside_baseline(root, PLACE)
    if not beside:
        return []
    without, best, against = beside
    reasoning = verdict_arms(root, PLACE, TARGETS).get(WITH)
    return [
        "",
        f"[The second trial](book/when-thinking-helps.md), {spent_by(without, TARGETS.key):,.0f} targets a run: "
        f"without reasoning {_ndcg(without)}, beside {best.name} {against.sentence}; "
        f"with reasoning {_ndcg(reasoning)}.",
    ]


def _runs(arm: Arm | None) -> str:
    return str(len(arm)) if arm else ""


def _ndcg(arm: Arm | None) -> str:
    if not arm:
        return "not run yet"
    return f"{arm_interval(arm, METRIC):.3f}".replace("0.", ".")


def result_section(picture: Path, root: Path = ROOT) -> str:
    """Draw the recorded arms and every tuned baseline, and show the drawing with the means as its alt text."""
    alt = reference_figure(reference_arms(PLACE, root), baseline_intervals(tuned_baselines(PLACE, root)), picture)
    return f"![{alt}]({FIGURES}/result.png)"


def chromium() -> str | None:
    """Path of a Chromium: ``$RREC_CHROMIUM`` or the system's."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return os.environ.get("RREC_CHROMIUM") or next((path for name in names if (path := shutil.which(name))), None)


def photograph(page: Path, picture: Path) -> None:
    """Take a picture of a rendered page in headless Chromium."""
    from playwright.sync_api import sync_playwright

    executable = chromium()
    if executable is None:
        raise BuildError("there is no Chromium: install your system's chromium package, or name one in RREC_CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": 1280, "height": 1330}, color_scheme="light")
        view.goto(page.as_uri(), wait_until="networkidle")
        view.screenshot(path=str(picture))
        browser.close()


def main() -> None:
    welcome = ROOT / "_build/html/book/welcome.html"
    try:
        if not welcome.exists():
            raise BuildError("the book is not built: run `make book`")
        photograph(welcome, ROOT / FIGURES / "book.png")  # what can fail comes first
        record_times("cpu")
        text = (ROOT / "README.md").read_text(encoding="utf-8")
        text = replace_section(text, "times", times_section(json.loads((ROOT / "results/times.json").read_text())))
        text = replace_section(text, "recorded", recorded_section())
        text = replace_section(text, "result", result_section(ROOT / FIGURES / "result.png"))
    except BuildError as problem:
        sys.exit(f"error: {problem}")
    (ROOT / "README.md").write_text(text, encoding="utf-8")
    print("README.md, its figures and results/times.json are those of the last run")


if __name__ == "__main__":
    main()
