"""The reference run as recorded: its arms by name, and the tuned baselines on the same test rows."""

from pathlib import Path

from rrec_lib.core.paths import resource
from rrec_lib.evaluation.compare import group_reports
from rrec_lib.evaluation.reports import Report, load_reports

METRIC = "ndcg@20"
WITH, WITHOUT, UNTRAINED = "with reasoning", "without reasoning", "untrained"
ARMS = {WITH: f"R²ec {WITH}", WITHOUT: f"R²ec {WITHOUT}", UNTRAINED: "the language model, untrained"}


def reference_arms(place: str, root: Path | None = None) -> dict[str, list[Report]]:
    """Reports by arm, over all seeds that were recorded; an arm that was not run is missing.

    Args:
        place: data set and profile, such as ``"movielens-cpu"``.
        root: that has ``results/``; None takes the project's.

    Raises:
        ValueError: if reports are on different examples or data.
    """
    folder = _results(f"reference/{place}", root)
    found = [report for path in sorted(folder.glob("*.json")) for report in load_reports(path)] if folder else []
    arms = group_reports(found) if found else {}
    return {name: arms[name] for name in ARMS if name in arms}


def tuned_baselines(place: str, root: Path | None = None) -> list[Report]:
    """The tuned baselines on the same test rows, best mean on test first; arguments as :func:`reference_arms`."""
    folder = _results(f"baselines/{place}", root)
    reports = load_reports(folder / "reports.json") if folder and (folder / "reports.json").is_file() else []
    return sorted(reports, key=lambda report: -report.metric(METRIC).mean())


def _results(relative: str, root: Path | None) -> Path | None:
    try:
        path = resource(f"results/{relative}") if root is None else root / "results" / relative
    except FileNotFoundError:
        return None
    return path if path.is_dir() else None
