"""What a run on GPUs will take: memory by part, tokens, hours. No weights are loaded.

In: a profile and figures of a machine. Out: a table.
Floor 4: imports core, data and model.
"""
