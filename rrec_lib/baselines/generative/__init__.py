"""What recommenders that write share: a trie over the catalogue, its exact scores, beams, preference losses.

In: a causal language model, prompts, every item's tokens. Out: (E, N) scores, as the evaluation takes them.
"""
