"""One language model with two heads, and what goes in and out of it.

In: examples and items. Out: prompts, token ids, log-probabilities, hidden states, item embeddings, adapters.
Floor 2: imports core and data.
"""
