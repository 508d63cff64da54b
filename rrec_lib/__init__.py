"""Reasoning recommenders, rebuilt: R²ec's dual-head policy, RecPO and their evaluation.

The names that a user starts with; each room (``rrec_lib.data``, ``rrec_lib.model`` and so on) has the rest.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
_ROOM_OF = {
    "load_profile": "core.profiles",
    "prepare_profile": "data.examples",
    "load_policy": "model.policy",
    "make_adapters": "training.stages",
    "load_stage": "training.stages",
    "load_recommender": "recommend.films",
    "BASELINES": "baselines",
    "evaluate": "evaluation.evaluate",
    "compare_arms": "evaluation.compare",
    "fused_reward": "recpo.rewards",
    "grpo_advantages": "recpo.advantages",
    "rloo_advantages": "recpo.advantages",
    "recpo_loss": "recpo.losses",
}
__all__ = [*_ROOM_OF]


def __getattr__(name: str) -> Any:
    """Import a name when it is first asked for: ``import rrec_lib`` alone costs nothing."""
    if name not in _ROOM_OF:
        raise AttributeError(f"rrec_lib has no {name!r}; it offers {', '.join(_ROOM_OF)}")
    return getattr(import_module(f"rrec_lib.{_ROOM_OF[name]}"), name)
