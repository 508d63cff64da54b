"""The two trainers on TRL and Transformers, their checkpoints, and the stages of a run.

In: a profile, a policy, examples. Out: adapters with their cards.
Floor 4: imports core, data, model, evaluation and recpo.
"""
