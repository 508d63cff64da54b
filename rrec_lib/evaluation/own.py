"""A recommender of the reader's own, named by its import path."""

import hashlib
import re
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any


def load_factory(path: str) -> tuple[Callable[..., Any], str]:
    """Import what makes a recommender, such as ``"followers:Followers"``; the working directory is looked at first.

    Args:
        path: ``MODULE:FACTORY``; the factory is a class or a function.

    Returns:
        The factory, and half of a SHA-256 by which runs of other code can be told apart: of the module's file, of what
        lies beside it and of its package, as far as it was imported.

    Raises:
        ValueError: if the path is none, there is no such module or factory, or the module can't be imported.
    """
    if not re.fullmatch(r"\w+(\.\w+)*:\w+", path):
        raise ValueError(f"a recommender is named MODULE:FACTORY, such as followers:Followers, got {path!r}")
    module_name, name = path.split(":")
    here = str(Path.cwd())
    if here not in sys.path:  # a program's own folder stands there instead
        sys.path.insert(0, here)
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as problem:
        if problem.name is None or not f"{module_name}.".startswith(f"{problem.name}."):
            raise ValueError(f"{module_name} can't be imported: {problem}") from problem
        file = module_name.removesuffix(".py")
        remedy = f"say {file}:{name}" if file != module_name else f"start where {file}.py lies"
        raise ValueError(f"no module {module_name!r} here or among what is installed; {remedy}") from problem
    except Exception as problem:  # whatever the reader's code raises while it is imported
        raise ValueError(f"{module_name} can't be imported ({_told(problem)})") from problem
    factory = getattr(module, name, None)
    if not callable(factory):
        raise ValueError(f"{module_name} has no class or function {name!r}")
    if not (source := getattr(module, "__file__", None)):
        raise ValueError(
            f"{module_name} has no file, so runs of its code can't be told apart; give a module of your own"
        )
    return factory, _digest(module_name, Path(source))


def _told(problem: Exception) -> str:
    """An error with the place in the code that raised it."""
    frames = traceback.extract_tb(problem.__traceback__)
    at = f", {Path(frames[-1].filename).name} line {frames[-1].lineno}" if frames else ""
    return f"{type(problem).__name__}: {problem}{'' if isinstance(problem, SyntaxError) else at}"


def _digest(name: str, source: Path) -> str:
    """Of the source files of a module, its package and its neighbours, those that are loaded."""
    digest, package, folder = hashlib.sha256(source.read_bytes()), name.partition(".")[0], source.resolve().parent
    files = {one: Path(file).resolve() for one, module in list(sys.modules.items())
             if (file := getattr(module, "__file__", None))}  # fmt: skip
    own = {file for one, file in files.items() if one.partition(".")[0] == package or file.parent == folder}
    for path in sorted(file for file in own - {source.resolve()} if file.is_file()):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:32]


def make_recommender(path: str, *arguments: Any) -> tuple[Any, str]:
    """Call the factory of :func:`load_factory`.

    Raises:
        ValueError: as there, and if what it makes has no ``scores``.
    """
    factory, digest = load_factory(path)
    try:
        signature(factory).bind(*arguments)
    except (TypeError, ValueError) as problem:  # of what is built in nothing is known
        if isinstance(problem, TypeError):
            raise ValueError(f"{path} is called with one argument, splits, and can't be: {problem}") from problem
    made = factory(*arguments)
    if not callable(getattr(made, "scores", None)):
        raise ValueError(f"{path} made a {type(made).__name__} without scores(examples), which gives (E, N) scores")
    return made, digest
