"""``rrec evaluate --recommender`` and ``rrec leaderboard``: the page's example as printed, and what is refused."""

import re
import shlex
import sys
from pathlib import Path

import pytest
from cli.refused import error  # tests/ is on the path

from rrec_lib.cli.main import main
from rrec_lib.core import paths
from rrec_lib.evaluation.evaluate import evaluate
from rrec_lib.evaluation.own import load_factory
from rrec_lib.evaluation.reports import data_hash, load_reports, save_reports
from rrec_lib.experiments.leaderboard import NOT_APART
from rrec_lib.experiments.tables import DATA_SETS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "book" / "leaderboard.md").read_text(encoding="utf-8")
PLACE = next(iter(DATA_SETS))
SMOKE = ("--profile", "smoke", "--sample", "all")


def block(language):
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return found


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A working directory that modules are imported from, and a project beside it with nothing recorded."""
    project, here = tmp_path / "project", tmp_path / "here"
    (project / "results").mkdir(parents=True)
    here.mkdir()
    for name in ("data", "notebooks"):
        (project / name).symlink_to(ROOT / name)
    monkeypatch.setattr(paths, "REPOSITORY", project)
    monkeypatch.chdir(here)
    monkeypatch.syspath_prepend(str(here))  # and off the path again
    return here


@pytest.fixture
def recorded(desk, smoke_dataset):
    """Counting baselines on the tests' data, in the place of what is recorded on the first set."""
    from rrec_lib.baselines import fitted_baselines

    test = list(smoke_dataset["test"])
    reports = [evaluate(one, test, name, 200) for name, one in list(fitted_baselines(smoke_dataset).items())[:2]]
    path = desk.parent / "project" / "results" / "baselines" / PLACE / "reports.json"
    save_reports(path, reports, "smoke", data_hash(smoke_dataset), 0)
    return path


def run_the_page(desk, capsys, *more):
    """Run the page's file and its commands, the first with more options; returns the report that was added."""
    (name,) = re.findall(r"a file `(\w+\.py)`", PAGE)
    (desk / name).write_text(block("python"))
    commands = [shlex.split(line) for line in block("bash").splitlines()]
    rrec = ".venv/bin/rrec"
    assert [command[:2] for command in commands] == [[rrec, "evaluate"], *[[rrec, "leaderboard"]] * 2]
    commands[0] += more
    for command in commands:
        assert main(command[1:]) == 0
    out = capsys.readouterr().out
    assert f"\n{PLACE}: rank " in out
    assert re.search(r"^valid chose power 0\.\d+$", out, re.MULTILINE)
    (line,) = [line for line in out.partition("wrote mine")[2].splitlines() if re.match(r"  \d+ .*\bFollowers ", line)]
    assert re.search(
        r"1 run  0\.\d{3} \[.*\]  0\.\d{3}  (no difference|worse by|better by|the first).*\(.*, \d{4}-", line
    )
    (report,) = load_reports(desk / "mine" / PLACE / "followers-0.json")
    assert report.run["settings"]["recommender"] == "followers:Followers"
    assert len(report.run["settings"]["source"]) == 32
    return report


def test_the_pages_example_runs_as_printed(desk, recorded, capsys):
    run_the_page(desk, capsys, "--profile", "smoke")


@pytest.mark.slow
def test_the_pages_example_runs_on_the_recorded_set(desk, capsys):
    for kind in ("baselines", "reference"):
        (desk.parent / "project" / "results" / kind).symlink_to(ROOT / "results" / kind)
    report = run_the_page(desk, capsys)
    assert report.metric("ndcg@20").mean() > load_reports(desk / "followers.json")[1].metric("ndcg@20").mean()


PEEKER = """
import torch
class Peeker:
    def __init__(self, splits):
        self.n = splits.n_items
        assert not hasattr(splits, "test")
    def scores(self, examples):
        return torch.stack([torch.arange(self.n).eq(one["target"]).float() for one in examples])
class Restless(Peeker):
    def scores(self, examples):
        return torch.rand(len(examples), self.n)
class Drawn(Peeker):
    def __init__(self, splits):
        self.row = torch.rand(splits.n_items)
    def scores(self, examples):
        return self.row.expand(len(examples), -1)
class Module(torch.nn.Linear):
    def __init__(self, splits):
        super().__init__(splits.n_items, splits.n_items)
    @torch.no_grad()
    def scores(self, examples):
        return self(torch.ones(len(examples), self.in_features))
class Lists(Peeker):
    def scores(self, examples):
        return [[0.0] * self.n for _ in examples]
class Narrow(Peeker):
    def scores(self, examples):
        return torch.rand(self.n - 1).expand(len(examples), -1)
def nothing(splits):
    return None
"""


def test_a_class_that_peeks_or_is_none_is_refused(desk, capsys):
    (desk / "peeker.py").write_text(PEEKER)
    (desk / "broken.py").write_text("def f(:\n")
    (desk / "needy.py").write_text("import not_installed_anywhere\n")

    def refused(path):
        return error(capsys, "evaluate", "--recommender", path, "--out", "r.json", *SMOKE)

    assert "Peeker: the scores change when the example's target is replaced" in refused("peeker:Peeker")
    assert "expected (4, N) scores as a tensor, got a list" in refused("peeker:Lists")
    assert "59 scores a row for a catalogue of 60 items" in refused("peeker:Narrow")
    assert "made a NoneType without scores(examples)" in refused("peeker:nothing")
    assert "peeker has no class or function 'Absent'" in refused("peeker:Absent")
    assert "no module 'absent' here" in refused("absent:X")
    assert "broken can't be imported (SyntaxError" in refused("broken:X")
    assert "needy can't be imported: No module named 'not_installed_anywhere'" in refused("needy:X")
    for path in ("peeker", "peeker.py:Peeker:x", ":X", "../peeker:X"):
        assert "is named MODULE:FACTORY, such as followers:Followers" in refused(path)
    assert "not allowed with" in error(capsys, "evaluate", "--recommender", "a:b", "--stage", "base")
    assert not (desk / "r.json").exists()


def test_runs_are_told_apart_by_all_code_of_a_class(tmp_path, monkeypatch):
    """What the named module imports from its package, or from beside itself, makes the scores, too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    files = {"own_kit/__init__.py": "from own_kit.model import Mine\n", "own_kit/model.py": "class Mine: pass\n",
             "own_entry.py": "from own_help import Mine\n", "own_help.py": "class Mine: pass\n"}  # fmt: skip
    (tmp_path / "own_kit").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    for entry, used in (("own_kit:Mine", "own_kit/model.py"), ("own_entry:Mine", "own_help.py")):
        before = load_factory(entry)[1]
        assert load_factory(entry)[1] == before
        (tmp_path / used).write_text("class Mine: another = 1\n")
        assert load_factory(entry)[1] != before


def test_a_class_of_ones_own_gets_a_line_and_its_runs_are_one(desk, recorded, capsys):
    (desk / "drawing.py").write_text(PEEKER)
    for seed in ("0", "1"):
        own = ["evaluate", "--recommender", "drawing:Drawn", "--name", "drawn", "--seed", seed]
        assert main([*own, "--out", f"{seed}.json", *SMOKE]) == 0
        assert main(["leaderboard", "add", f"{seed}.json"]) == 0
    out = capsys.readouterr().out
    assert f"{PLACE}: rank " in out
    assert re.search(r"drawn, NDCG@20 0\.\d{3} \[0\.\d{3}, 0\.\d{3}\]; .*, 2 against 1 seeds|2 seeds", out)
    board = desk.parent / "project" / "results" / "leaderboard"
    assert sorted(path.name for path in (board / PLACE).iterdir()) == ["drawn-0.json", "drawn-1.json"]
    assert "is on the board" in error(capsys, "leaderboard", "add", "1.json", "--name", "drawn")
    assert main(["leaderboard", "add", "1.json", "--name", "drawn", "--as", "drawn again"]) == 0
    assert main(["leaderboard", "add", "1.json", "--name", "drawn", "--replace"]) == 0
    assert sorted(path.name for path in (board / PLACE).iterdir()) == ["drawn-1.json", "drawn-again-1.json"]
    capsys.readouterr()
    assert main(["leaderboard", "show", "--out", "pages/board.md"]) == 0
    out = capsys.readouterr().out
    assert out.count("not run yet") == len(DATA_SETS) - 1
    assert NOT_APART in out
    page = (desk / "pages" / "board.md").read_text()
    assert page.startswith(f"# Leaderboard\n\n## {DATA_SETS[PLACE]}\n\n| rank | method |")
    assert "| drawn again | 1 | 0." in page


def test_restless_scores_are_evaluated_but_get_no_line_and_a_module_is_taken(desk, recorded, capsys):
    (desk / "restless.py").write_text(PEEKER)
    assert main(["evaluate", "--recommender", "restless:Restless", "--out", "r.json", *SMOKE]) == 0
    capsys.readouterr()
    assert "make them repeatable" in error(capsys, "leaderboard", "add", "r.json", "--name", "Restless")
    assert main(["evaluate", "--recommender", "restless:Module", "--out", "m.json", *SMOKE[:2], "--sample", "5"]) == 0
    capsys.readouterr()
    message = error(capsys, "leaderboard", "add", "m.json", "--name", "Module", "--board", "other")
    assert re.search(r"evaluated on 5 rows of 60 items, the board is of all \d+ test rows of 60", message)
    assert not (desk / "other").exists()


def test_the_commands_mistakes_are_one_sentence(desk, capsys, monkeypatch):
    assert "see `rrec leaderboard --help`" in error(capsys, "leaderboard")
    assert "see `rrec leaderboard add --help`" in error(capsys, "leaderboard", "add")
    assert f"no board of 'games'; choose one of {PLACE}" in error(capsys, "leaderboard", "show", "--dataset", "games")
    assert "no board nowhere; `rrec leaderboard add" in error(capsys, "leaderboard", "show", "--board", "nowhere")
    assert "no report none.json" in error(capsys, "leaderboard", "add", "none.json")
    for found in ("load_profile", "available_profiles"):  # which a wheel has
        monkeypatch.setattr(f"rrec_lib.cli.main.{found}", lambda *given: [])
    monkeypatch.setattr(paths, "REPOSITORY", None)
    assert "name a folder with --board" in error(capsys, "leaderboard", "add", "none.json")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["--help"], ["leaderboard", "rank all reports on the recorded sets, or add one"]),
        (["leaderboard", "--help"], ["show", "add", "rrec leaderboard add report.json"]),
        (["leaderboard", "show", "--help"], ["--dataset", "--out FILE", "--board DIR"]),
        (["leaderboard", "add", "--help"], ["REPORT", "--name", "--as NAME", "--replace", "--board DIR"]),
        (["evaluate", "--help"], ["--recommender MODULE:FACTORY", "object with scores(examples)"]),
    ],
)
def test_the_help_says_what_there_is(command, words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 0
    out = " ".join(capsys.readouterr().out.split())
    assert [word for word in words if word not in out] == []
