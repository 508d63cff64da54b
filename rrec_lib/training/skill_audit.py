"""What reasonings say: which skill each is of, whether it parses, and how much of what it states is true.

In: texts and the examples they were written for. Out: shares for a log line or a record. Nothing looks at the target.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rrec_lib.data.examples import Example
from rrec_lib.training.skills import SKILLS, World, contradicts_itself, is_true, parse

PARSED, TRUE, SKILLS_USED = 0.90, 0.95, 3  # the bars that were set beforehand
USED = 0.01  # share of the texts from which on a skill counts as used


@dataclass(frozen=True)
class Audit:
    """What T texts say.

    Attributes:
        texts: T.
        shares: per skill, its share of the texts; they add up to the share that parses whole.
        stating: per skill, the share of the texts that are of it and state something.
        statements: how many the texts make.
        true: how many of these are true of the history or of the training data.
        contradicting: how many texts contradict themselves.
        rewards: per skill the mean reward of its texts, and under ``"none"`` of those that don't parse; only of those
            that were written, and empty without rewards.
    """

    texts: int
    shares: dict[str, float]
    stating: dict[str, float]
    statements: int
    true: int
    contradicting: int
    rewards: dict[str, float]

    @property
    def parsed_share(self) -> float:
        """Share of texts that are a skill's from beginning to end."""
        return sum(self.shares.values())

    @property
    def true_share(self) -> float | None:
        """Share of all statements that are true; None where nothing is stated."""
        return self.true / self.statements if self.statements else None

    @property
    def skills_used(self) -> list[str]:
        """Skills of which at least :data:`USED` of the texts state something."""
        return [skill for skill, share in self.stating.items() if share >= USED]

    @property
    def missed(self) -> list[str]:
        """The bars that are not reached, in words; none if all are."""
        true = self.true_share
        bars = {
            f"{self.parsed_share:.1%} parse whole, below {PARSED:.0%}": self.parsed_share < PARSED,
            "nothing is stated": true is None,
            f"{true or 0:.1%} of the statements are true, below {TRUE:.0%}": true is not None and true < TRUE,
            f"{self.contradicting} texts contradict themselves": self.contradicting > 0,
            f"{len(self.skills_used)} skills, below {SKILLS_USED}": len(self.skills_used) < SKILLS_USED,
        }
        return [bar for bar, fails in bars.items() if fails]

    def figures(self) -> dict[str, Any]:
        """All of it as plain numbers, the bars that are missed among them."""
        shares = {"parsed_share": self.parsed_share, "true_share": self.true_share}
        return {**asdict(self), **shares, "skills_used": self.skills_used, "missed": self.missed}


def audit(
    texts: Sequence[str], examples: Sequence[Example], world: World, rewards: Sequence[float] | None = None
) -> Audit:
    """Parse texts and check what they state.

    Args:
        texts: T reasonings, without the marker.
        examples: T examples they were written for; in a group each example stands G times.
        world: what statements are true of.
        rewards: T, if there are any.

    Raises:
        ValueError: without a text, or if the arguments have different lengths.
    """
    lengths = {len(texts), len(examples), len(texts if rewards is None else rewards)}
    if lengths != {len(texts)} or not texts:
        raise ValueError(f"an audit needs texts, and an example (and a reward) for each, got {sorted(lengths)} of them")
    found, said_something = Counter[str](), Counter[str]()
    earned: defaultdict[str, float] = defaultdict(float)
    statements = true = contradicting = 0
    for number, (text, example) in enumerate(zip(texts, examples, strict=True)):
        skill, said = parse(text) or ("none", [])
        stated = list(dict.fromkeys(said))  # what is said twice is one statement
        found[skill] += 1
        said_something[skill] += bool(stated)
        earned[skill] += 0.0 if rewards is None else float(rewards[number])
        statements += len(stated)
        true += sum(is_true(statement, example, world) for statement in stated)
        contradicting += contradicts_itself(stated)
    shares, stating = ({skill: of[skill] / len(texts) for skill in SKILLS} for of in (found, said_something))
    means = {} if rewards is None else {skill: earned[skill] / count for skill, count in found.items()}
    return Audit(len(texts), shares, stating, statements, true, contradicting, means)


def step_figures(
    texts: Sequence[str], examples: Sequence[Example], world: World, rewards: Sequence[float]
) -> dict[str, float]:
    """A training step's audit as log figures: the same names whatever was written, each a mean over the step's texts.

    So they may be averaged over processes and steps. A skill's reward is its texts' sum over the number of *all* texts;
    over the skill's share that is its mean, before and after averaging. So are true statements over statements.

    Args:
        texts, examples, world, rewards: as in :func:`audit`.
    """
    found = audit(texts, examples, world, rewards)
    figures = {f"{skill}_share": share for skill, share in found.shares.items()}
    figures["none_share"] = 1 - found.parsed_share
    for skill in (*SKILLS, "none"):
        figures[f"{skill}_reward_part"] = found.rewards.get(skill, 0.0) * figures[f"{skill}_share"]
    per_text = {"statements": found.statements, "true_statements": found.true, "contradictions": found.contradicting}
    return figures | {name: count / found.texts for name, count in per_text.items()}
