"""The search: seeded, written down, resumed to the same table; the registry fits everything in it."""

import itertools
import json
import sys
from dataclasses import replace

import pytest
import stage
from datasets import DatasetDict

import rrec_lib.baselines
from rrec_lib.baselines import BASELINES, fitted_baselines, import_baselines, registry, tuning
from rrec_lib.baselines.registry import BudgetError, Means, Splits
from rrec_lib.baselines.simple import Popularity
from rrec_lib.baselines.tuning import draw_points, fit_tuned, tune
from rrec_lib.cli.main import main
from rrec_lib.core.profiles import load_profile, override
from rrec_lib.data.examples import prepare_profile
from rrec_lib.evaluation.evaluate import mean_ndcg
from rrec_lib.evaluation.reports import load_reports

QUICK = {"epochs": (1,), "hidden": (8,), "heads": (1,)}


@pytest.fixture(scope="module")
def splits(smoke_dataset):
    return Splits.of(smoke_dataset)


def stripped(tuned):
    return [(trial["parameters"], trial["valid"]) for trial in tuned.trials]


def test_a_search_goes_on_where_it_stopped(splits, tmp_path, monkeypatch):
    whole = tune("ItemKNN", splits, 5, 0, tmp_path / "a.json")
    tune("ItemKNN", splits, 2, 0, tmp_path / "b.json")
    fitted = []
    fit = BASELINES["ItemKNN"].fit
    monkeypatch.setitem(vars(BASELINES["ItemKNN"]), "fit", lambda *a, **p: fitted.append(p) or fit(*a, **p))
    again = tune("ItemKNN", splits, 5, 0, tmp_path / "b.json")
    assert stripped(again) == stripped(whole)
    assert len(fitted) == 3
    assert again.valid == max(value for _, value in stripped(whole))
    assert mean_ndcg(fit_tuned(again, splits, 0), splits.valid) == pytest.approx(again.valid)
    assert len(json.loads((tmp_path / "b.json").read_text())["trials"]) == 5


@pytest.fixture
def half_minutes(monkeypatch):
    """A processor on which every trial takes half a minute."""
    readings = itertools.count(step=30)
    monkeypatch.setattr(tuning.time, "process_time", lambda: next(readings))


def test_a_budget_is_spent_once_and_written_down(splits, tmp_path, half_minutes):
    path = tmp_path / "a.json"
    assert len(tune("ItemKNN", splits, 5, 0, path, minutes=1).trials) == 2
    budget = json.loads(path.read_text())["budget"]
    assert budget == {"points": 5, "minutes": 1, "trials_done": 2, "cpu_seconds": 60}
    before = path.read_bytes()
    assert len(tune("ItemKNN", splits, 5, 0, path, minutes=1).trials) == 2
    assert path.read_bytes() == before  # spent is spent
    longer = tune("ItemKNN", splits, 5, 0, path, minutes=1.75)
    assert len(longer.trials) == 4  # the one that runs when the budget ends is finished
    assert stripped(longer) == stripped(tune("ItemKNN", splits, 5, 0, tmp_path / "b.json"))[:4]
    assert len(tune("ItemKNN", splits, 5, 0, path).trials) == 5


def test_the_smallest_budget_tries_one_point(splits, tmp_path, half_minutes):
    assert len(tune("ItemKNN", splits, None, 0, tmp_path / "a.json", minutes=0.01).trials) == 1


def test_a_file_from_before_budgets_counts_the_time_that_passed(splits, tmp_path, half_minutes):
    path = tmp_path / "a.json"
    tune("ItemKNN", splits, 2, 0, path)
    old = json.loads(path.read_text())
    old["trials"] = [{"parameters": t["parameters"], "valid": t["valid"], "seconds": 50} for t in old["trials"]]
    path.write_text(json.dumps(old))
    assert len(tune("ItemKNN", splits, 5, 0, path, minutes=1.5).trials) == 2
    assert len(tune("ItemKNN", splits, 5, 0, path, minutes=2).trials) == 3


def test_the_draw_is_seeded_and_repeats_nothing():
    baseline = BASELINES["EASE"]
    points = draw_points(baseline, 1000, 0)
    assert len(points) == 56 == len({str(point) for point in points})
    assert points != draw_points(baseline, 1000, 1)
    assert points[:5] == draw_points(baseline, 5, 0)
    assert points == draw_points(baseline, None, 0)
    assert draw_points(BASELINES["chance"], 9, 0) == [{}]


def test_a_search_of_something_else_is_not_gone_on_with(splits, tmp_path):
    tune("EASE", splits, 1, 0, tmp_path / "a.json")
    for other, message in ((splits, "seed 0, now 1"), (replace(splits, data="x"), f"data {splits.data}, now x")):
        with pytest.raises(ValueError, match=f"a.json is of a run with other settings .*{message}"):
            tune("EASE", other, 1, int(other is splits), tmp_path / "a.json")
    with pytest.raises(ValueError, match="unknown baseline 'SVD'; choose one of chance"):
        tune("SVD", splits, 1, 0, tmp_path / "b.json")


@pytest.mark.parametrize("name", [name for name, one in BASELINES.items() if not one.only_named])
def test_every_baseline_fits_and_scores_the_whole_catalogue(name, splits):
    baseline = BASELINES[name]
    (parameters,) = draw_points(baseline, 1, 0)
    if "learning_rate" in baseline.space:
        parameters |= {key: values[0] for key, values in QUICK.items()}
    scores = baseline.fit(splits, 0, **parameters).scores(splits.valid[:3])
    assert scores.shape == (3, splits.n_items)
    assert scores.isfinite().all()


def test_the_quick_four_need_no_search(smoke_dataset):
    test = list(smoke_dataset["test"])
    assert list(fitted_baselines(DatasetDict(smoke_dataset))) == [
        "chance", "popularity", "co-occurrence", "text similarity",
    ]  # fmt: skip
    for baseline in fitted_baselines(smoke_dataset).values():
        assert baseline.scores(test).shape == (len(test), smoke_dataset["items"].num_rows)


def test_the_command_tunes_reports_and_goes_on(tmp_path, capsys):
    out = tmp_path / "baselines"
    command = ["baselines", "--profile", "smoke", "--only", "EASE", "--only", "recent popularity", "--out", str(out)]
    assert main([*command, "--trials", "2"]) == 0
    first = capsys.readouterr().out
    assert [line.split()[0] for line in first.splitlines()[1:3]] == ["EASE", "recent"]
    assert main([*command, "--trials", "2"]) == 0
    assert capsys.readouterr().out == first
    assert [report.name for report in load_reports(out / "reports.json")] == ["EASE", "recent popularity"]
    assert {path.name for path in out.iterdir()} == {"ease.json", "recent-popularity.json", "reports.json"}
    assert main(["baselines", "--profile", "smoke", "--only", "chance", "--out", str(out)]) == 0
    reports = load_reports(out / "reports.json")  # the others' are kept, each with what it was made with
    assert [report.name for report in reports] == ["EASE", "recent popularity", "chance"]
    assert {name: set(made["parameters"]) for name, made in reports[0].run["made"].items()} == {
        "EASE": {"l2", "length"}, "recent popularity": {"days"}, "chance": set(),
    }  # fmt: skip
    capsys.readouterr()
    assert main(["compare", str(out / "reports.json")]) == 0
    assert "recent popularity" in capsys.readouterr().out
    assert main(["baselines", "--only", "SVD", "--out", str(out)]) == 2
    assert "unknown baseline 'SVD'" in capsys.readouterr().err


def test_what_another_command_wrote_meanwhile_is_kept(tmp_path, monkeypatch):
    command = ["baselines", "--profile", "smoke", "--out", str(tmp_path), "--only"]
    fit = tuning.fit_tuned

    def slowly(*arguments):
        monkeypatch.setattr(tuning, "fit_tuned", fit)
        assert main([*command, "chance", "--seed", "1"]) == 0
        return fit(*arguments)

    monkeypatch.setattr(tuning, "fit_tuned", slowly)
    assert main([*command, "popularity"]) == 0
    reports = load_reports(tmp_path / "reports.json")
    assert {report.name for report in reports} == {"popularity", "chance"}
    assert {name: made["seed"] for name, made in reports[0].run["made"].items()} == {"popularity": 0, "chance": 1}


def test_reports_of_other_data_are_refused_before_any_work(tmp_path, monkeypatch, capsys):
    command = ["baselines", "--profile", "smoke", "--out", str(tmp_path), "--only", "chance"]
    assert main(command) == 0
    monkeypatch.setattr(tuning, "tune", None)
    assert main([*command, "--set", "data.max_users=30"]) == 2
    assert "is of other data; give another folder with --out" in capsys.readouterr().err


def test_a_language_models_trials_are_of_its_settings(splits, tmp_path, monkeypatch):
    popularity = Popularity(splits.train, splits.n_items)
    space = {"D3": registry.Baseline(lambda *arguments, **chosen: popularity, {}, trains_language_model=True)}
    monkeypatch.setattr(tuning, "BASELINES", space)
    monkeypatch.setattr(tuning, "mean_ndcg", lambda model, rows: 0.5)
    means = Means(load_profile("smoke"), tmp_path)
    told = replace(splits, means=means)
    tuning.tune("D3", told, 1, 0, tmp_path / "d3.json")
    for changed, named in (
        (replace(means, hours=2.0), "means.hours 1.0, now 2.0"),
        (replace(means, beams=None), "means.beams 50, now None"),
        (replace(means, profile=load_profile("smoke", {"model.lora_rank": 2})), "means.model.lora_rank 4, now 2"),
    ):
        with pytest.raises(ValueError, match=named):
            tuning.tune("D3", replace(splits, means=changed), 1, 0, tmp_path / "d3.json")
    elsewhere = replace(means, folder=tmp_path / "moved", profile=load_profile("smoke", {"training.steps": 9}))
    assert len(tuning.tune("D3", replace(splits, means=elsewhere), 1, 0, tmp_path / "d3.json").trials) == 1


def test_rows_of_one_user_are_refused_before_any_work(tmp_path, monkeypatch, capsys):
    dataset = prepare_profile(load_profile("smoke"))
    user = dataset["test"][0]["user_id"]
    dataset["test"] = dataset["test"].filter(lambda row: row["user_id"] == user)
    monkeypatch.setattr("rrec_lib.data.examples.prepare_profile", lambda profile: dataset)
    monkeypatch.setattr(tuning, "tune", None)
    assert main(["baselines", "--profile", "smoke", "--only", "EASE", "--out", str(tmp_path)]) == 2
    assert "all rows of test are one user's" in capsys.readouterr().err


def test_the_command_stops_at_its_budget(tmp_path, capsys, half_minutes):
    out = tmp_path / "baselines"
    command = ["baselines", "--profile", "smoke", "--only", "EASE", "--out", str(out)]
    assert main([*command, "--minutes", "1"]) == 0
    assert len(json.loads((out / "ease.json").read_text())["trials"]) == 2
    assert main([*command, "--minutes", "9", "--trials", "3"]) == 0
    assert len(json.loads((out / "ease.json").read_text())["trials"]) == 3
    assert "EASE" in capsys.readouterr().out
    for option in (["--minutes", "0"], ["--minutes", "nan"], ["--trials", "0"]):
        assert main([*command, *option]) == 2
        assert f"{option[0]} takes a number" in capsys.readouterr().err


NEWCOMER = """
from rrec_lib.baselines.registry import BASELINES, Baseline
from rrec_lib.baselines.simple import Popularity

BASELINES["newcomer"] = Baseline(
    lambda splits, seed, days: Popularity(splits.train, splits.n_items, days), {"days": (7, 30)}
)
"""


@pytest.fixture
def newcomer(tmp_path, monkeypatch):
    """A baseline in a file of its own, beside the package's modules, and nothing else."""
    (tmp_path / "newcomer.py").write_text(NEWCOMER)
    monkeypatch.setattr(rrec_lib.baselines, "__path__", [*rrec_lib.baselines.__path__, str(tmp_path)])
    import_baselines()
    yield "newcomer"
    del BASELINES["newcomer"], sys.modules["rrec_lib.baselines.newcomer"]
    monkeypatch.delattr(rrec_lib.baselines, "newcomer")


def test_a_baseline_in_a_file_of_its_own_is_listed_tuned_and_reported(newcomer, tmp_path, capsys):
    assert main(["baselines", "--only", "SVD", "--out", str(tmp_path / "none")]) == 2
    assert newcomer in capsys.readouterr().err  # among those that there are
    out = tmp_path / "results" / "baselines" / "smoke"
    assert main(["baselines", "--profile", "smoke", "--only", newcomer, "--out", str(out)]) == 0
    assert len(json.loads((out / "newcomer.json").read_text())["trials"]) == 2
    assert [report.name for report in load_reports(out / "reports.json")] == [newcomer]
    (row,) = [line for line in stage.baselines_table(tmp_path, "smoke").splitlines() if newcomer in line]
    assert "| 2 | days " in row  # points tried, and what valid chose


def test_a_point_that_its_hours_do_not_pay_for_is_left_out(splits, tmp_path, monkeypatch, capsys):
    fit, dear = BASELINES["ItemKNN"].fit, draw_points(BASELINES["ItemKNN"], 1, 0)[0]

    def within(*arguments, **parameters):
        if parameters == dear:
            raise BudgetError("it took 9 of 8 seconds")
        return fit(*arguments, **parameters)

    monkeypatch.setitem(vars(BASELINES["ItemKNN"]), "fit", within)
    with pytest.raises(BudgetError, match="9 of 8"):
        tune("ItemKNN", splits, 1, 0, tmp_path / "a.json")
    tuned = tune("ItemKNN", splits, 3, 0, tmp_path / "a.json")
    assert len(tuned.trials) == 2
    assert dear not in [trial["parameters"] for trial in tuned.trials]
    assert "is left out: it took 9 of 8 seconds" in capsys.readouterr().err


def test_what_a_search_leans_on_and_learns_by_is_kept(smoke_profile, smoke_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "OTHERS_TRIALS", 1)
    for name, space in (("SASRec", {**BASELINES["SASRec"].space, **QUICK}), ("D3", {"guidance": (0.5,)})):
        monkeypatch.setitem(vars(BASELINES[name]), "space", space)
    monkeypatch.setitem(
        vars(BASELINES["D3"]), "fit", lambda splits, seed, **_: Popularity(splits.train, splits.n_items)
    )
    splits, path = Splits.of(smoke_dataset, Means(smoke_profile, tmp_path)), tmp_path / "d3.json"
    tune("D3", splits, None, 0, path)
    search = json.loads((tmp_path / "sasrec.json").read_text())
    found = json.loads(path.read_text())
    assert found["leans_on"] == {"SASRec": search["trials"][0]["parameters"]}
    other = override(smoke_profile, "training.learning_rate", 0.5)
    with pytest.raises(ValueError, match=r"preferences\.learning_rate"):
        tune("D3", replace(splits, means=Means(other, tmp_path)), None, 0, path)
    best = {**search["trials"][0], "parameters": {**search["trials"][0]["parameters"], "hidden": 9}, "valid": 1.0}
    (tmp_path / "sasrec.json").write_text(json.dumps({**search, "trials": [*search["trials"], best]}))
    with pytest.raises(ValueError, match="leans_on"):
        tune("D3", splits, None, 0, path)
    path.write_text(json.dumps({key: value for key, value in found.items() if key not in ("leans_on", "preferences")}))
    assert len(tune("D3", splits, None, 0, path).trials) == 1  # of before these were kept
