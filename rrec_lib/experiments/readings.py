"""What experiments share that only read an adapter: which one, on which rows, and the options of their scripts."""

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

from datasets import DatasetDict

from rrec_lib.core.paths import REPOSITORY, resource
from rrec_lib.core.profiles import Profile, available_profiles, load_profile, parse_overrides
from rrec_lib.core.reading import read_json
from rrec_lib.data.examples import prepare_profile
from rrec_lib.data.prepared import catalogue_hash
from rrec_lib.experiments.runner import Options, Run
from rrec_lib.model.adapters import CARD, WEIGHTS, load_adapter, weights_digest
from rrec_lib.model.policy import Policy, load_policy
from rrec_lib.training.stages import OF_READING, read_otherwise, trained_with


def reading_parser(description: str | None, out: str, test_rows: bool = True) -> ArgumentParser:
    """A script's parser with the options of every reading; the script adds its own.

    Args:
        description: of the script.
        out: folder of its results, below ``results`` and ``runs``.
        test_rows: whether it takes rows by a user's number.
    """
    parser = ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="cpu", choices=available_profiles())
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="another profile value")
    parser.add_argument("--adapter", type=Path, help="folder of the adapter that is read (default: the shipped one)")
    parser.add_argument("--seed", type=int, default=0, help="of the adapter's run, and of sampling (default: 0)")
    if test_rows:
        parser.add_argument("--test-rows", type=int, help="test rows of a user at most (default: all)")
    parser.add_argument("--runs", type=Path, default=Path("runs") / out, help="finished parts (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=(REPOSITORY or Path()) / "results" / out, help="records")
    return parser


def what_to_read(arguments: Namespace) -> tuple[Options, Path]:
    """What :func:`reading_parser` has read: options that read the adapter as it was trained, and its folder.

    Nothing is trained, on valid nothing decided.

    Raises:
        FileNotFoundError: if there is no such adapter.
    """
    adapter = adapter_folder(arguments.profile, arguments.adapter)
    overrides = {
        **trained_with(read_json(adapter / CARD), (*OF_READING, "model.dtype")),
        **parse_overrides(arguments.set),
    }
    return Options(0.0, 0, arguments.runs, arguments.out, arguments.profile, overrides, 0), adapter


def reading(
    options: Options, name: str, control: str, seed: int, adapter: Path, test_rows: int | None = None, **more: Any
) -> Run:
    """A run that reads an adapter; its settings name the adapter by the hash of its weights.

    Args:
        options: of :func:`what_to_read`.
        name: of the report.
        control: what stands before the marker.
        seed: of the adapter's run, and of sampling.
        adapter: its folder, of :func:`adapter_folder`.
        test_rows: of a user at most; None takes all.
        more: what else the result depends on.
    """
    profile = load_profile(options.profile, options.overrides)
    return Run(name, control, seed, options, profile, 0.0, test_rows, more={"adapter": weights_digest(adapter), **more})


def adapter_folder(profile: str, given: Path | None = None) -> Path:
    """The folder of the adapter that is read.

    Args:
        profile: whose shipped adapter is taken if none is given.
        given: a folder.

    Raises:
        FileNotFoundError: if there is no such adapter.
    """
    shipped = load_profile(profile).adapters.get("recpo")
    folder = given or (resource(shipped) if shipped else None)
    if folder is None or not all((folder / name).is_file() for name in (WEIGHTS, CARD)):
        said = folder or f"is shipped for profile {profile}"
        raise FileNotFoundError(f"no adapter {said}; name one with --adapter")
    return folder


def load_read(run: Run, adapter: Path) -> tuple[Policy, DatasetDict]:
    """The policy with the adapter's weights, and the data.

    Raises:
        ValueError: for an adapter that is tied to something else or of another seed, or was trained with histories or
            reasonings of another length or in another type.
    """
    dataset = prepare_profile(run.profile)
    policy = load_policy(run.profile.model, run.seed)
    load_of_seed(policy, adapter, dataset, run)
    return policy, dataset


def load_of_seed(policy: Policy, adapter: Path, dataset: DatasetDict, run: Run) -> None:
    """:func:`load_as_trained`, for an adapter of a run's seed, by which readings of several adapters are told apart.

    Raises:
        ValueError: if it is of another seed, and as there.
    """
    seed = read_json(adapter / CARD).get("seed")
    if seed not in (None, run.seed):
        raise ValueError(f"the adapter in {adapter} was trained with seed {seed}; add --seed {seed}")
    load_as_trained(policy, adapter, dataset, run.profile)


def load_as_trained(policy: Policy, adapter: Path, dataset: DatasetDict, profile: Profile) -> None:
    """Put an adapter's weights into a policy, if the profile reads them as they were trained; raises as above."""
    card = load_adapter(policy, adapter, catalogue_hash(dataset["items"]))
    other = read_otherwise(card, profile)
    then, now = trained_with(card, ["model.dtype"]).get("model.dtype"), policy.dtype_name
    if then not in (None, now):
        other["model.dtype"] = then, now
    if other:
        told = ", ".join(f"{knob}={then} (here {now})" for knob, (then, now) in other.items())
        remedy = " ".join(f"--set {knob}={then}" for knob, (then, _) in other.items())
        raise ValueError(f"the adapter in {adapter} was trained with {told}; add {remedy}")
