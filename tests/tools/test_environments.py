"""What builds environments: steps are said and end the program where one fails."""

import sys

import environments
import pytest


def test_a_step_that_fails_ends_the_program_with_a_sentence(tmp_path, capfd):
    step = environments.steps("here", "as it should", cwd=tmp_path)
    step(sys.executable, "-c", "import os; print(os.getcwd(), os.environ['A'])", env={"A": "b"})
    said = capfd.readouterr().out
    assert said.startswith("[here] ")
    assert f"{tmp_path} b" in said
    with pytest.raises(SystemExit, match="error: the step above failed as it should"):
        step(sys.executable, "-c", "raise SystemExit(3)")


def test_an_environment_is_made_and_then_filled(tmp_path):
    ran = []
    python = environments.make(lambda *words: ran.append([str(word) for word in words]), tmp_path, ["a", "b"], ["c"])
    assert python == tmp_path / "bin" / "python"
    assert ran[0] == [sys.executable, "-m", "venv", "--clear", str(tmp_path)]
    assert [words[-2:] for words in ran[1:]] == [["a", "b"], ["-qq", "c"]]
    assert {words[0] for words in ran[1:]} == {str(python)}
