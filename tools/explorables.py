"""Write what explorables need and no hand should: data of recorded runs, and still pictures.

``python tools/explorables.py`` after a change to book/_static/explore or to results/; tests compare.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from execute import ROOT
from readme import chromium
from stage import EXPLORE

from rrec_lib.experiments.reference import ARMS, METRIC, WITH, WITHOUT, reference_arms, tuned_baselines

PLACE = "movielens-cpu"
WIDTH = 680  # of a still picture, as on a desktop's page
STILLS = ("drag", "clip", "axis", "interval", "people", "lab")


def interval_data(root: Path = ROOT) -> str:
    """Script with the metric of every test row, by recommender and user, the users in the order of their indices."""
    arms = reference_arms(PLACE, root)
    baselines = {report.name: report for report in tuned_baselines(PLACE, root)}
    shown = {ARMS[arm]: arms[arm][0] for arm in (WITH, WITHOUT)}
    shown |= {name: baselines[name] for name in ("eSASRec", "popularity")}
    values = {name: _by_user(report.metric(METRIC), report.users) for name, report in shown.items()}
    lines = [
        f"  {json.dumps(name, ensure_ascii=False)}: {json.dumps(rows, separators=(',', ':'))},"
        for name, rows in values.items()
    ]
    head = f"// {METRIC} of each test row of {PLACE} by user, seed 0, from results/: tools/explorables.py wrote it."
    return "\n".join([head, "explore.data.interval = { values: {", *lines, "} };", ""])


def _by_user(values: np.ndarray, users: np.ndarray) -> list[list[float]]:
    return [[round(value, 5) or 0 for value in values[users == user].tolist()] for user in np.unique(users)]


def stills(names: Iterable[str] = STILLS) -> dict[str, str]:
    """Each explorable's first picture as an SVG file's text, drawn in headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        page = browser.new_page()
        load(page, names)
        drawn = {name: still(page, name) for name in names}
        browser.close()
    return drawn


def load(page, names: Iterable[str]) -> None:  # type: ignore[no-untyped-def]  # Playwright is optional
    """Give a page the scripts of explorables."""
    page.add_script_tag(path=EXPLORE / "frame.js")
    for name in names:
        for script in (EXPLORE / f"{name}-data.js", EXPLORE / f"{name}.js"):
            if script.is_file():
                page.add_script_tag(path=script)


def still(page, name: str) -> str:  # type: ignore[no-untyped-def]
    """The first picture of an explorable that the page has loaded."""
    css = (EXPLORE / "frame.css").read_text(encoding="utf-8")
    return str(page.evaluate("([name, width, css]) => explore.still(name, width, css)", [name, WIDTH, css]))


def main() -> None:
    (EXPLORE / "interval-data.js").write_text(interval_data(), encoding="utf-8")
    for name, drawing in stills().items():
        (EXPLORE / f"{name}.svg").write_text(drawing, encoding="utf-8")
    print(f"{EXPLORE.relative_to(ROOT)} is up to date")


if __name__ == "__main__":
    main()
