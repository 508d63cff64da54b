"""A command that refuses what it was given."""

from rrec_lib.cli.main import main


def error(capsys, *arguments):
    """The one line that it says."""
    assert main(list(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err
