"""RecPO as pure maths and sampling: rollouts, rewards, advantages, losses.

In: user prompts, item states, targets. Out: trajectories, rewards (B, G), advantages (B, G), the loss.
Floor 3: imports core, model and evaluation.
"""
