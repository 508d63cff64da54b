"""A recommender of the reader's own, named by its import path."""

import hashlib
import re
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def load_factory(path: str) -> tuple[Callable[..., Any], str]:
    """Import what makes a recommender, such as ``"followers:Followers"``; the working directory is looked at first.

    Args:
        path: ``MODULE:FACTORY``; the factory is a class or a function.

    Returns:
        The factory, and the first half of its file's SHA-256, by which runs of other code can be told apart.

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
        raise ValueError(f"no module {module_name!r} here or among what is installed; start where {module_name}.py "
                         "lies") from problem  # fmt: skip
    except (ImportError, SyntaxError) as problem:
        raise ValueError(f"{module_name} can't be imported ({type(problem).__name__}: {problem})") from problem
    factory = getattr(module, name, None)
    if not callable(factory):
        raise ValueError(f"{module_name} has no class or function {name!r}")
    if not (source := getattr(module, "__file__", None)):
        raise ValueError(
            f"{module_name} has no file, so runs of its code can't be told apart; give a module of your own"
        )
    return factory, hashlib.sha256(Path(source).read_bytes()).hexdigest()[:32]


def make_recommender(path: str, *arguments: Any) -> tuple[Any, str]:
    """Call the factory of :func:`load_factory`.

    Raises:
        ValueError: as there, and if what it makes has no ``scores``.
    """
    factory, digest = load_factory(path)
    made = factory(*arguments)
    if not callable(getattr(made, "scores", None)):
        raise ValueError(f"{path} made a {type(made).__name__} without scores(examples), which gives (E, N) scores")
    return made, digest
