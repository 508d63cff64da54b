"""A catalogue with twins, forced tokens and titles inside titles; its scores token by token, one sequence at a time."""

import torch

END = 2
TITLES = [[5, 6, 7], [5, 6, 8], [10, 11, 12, 13], [5, 9], [5, 6, 8], [10, 11, 12, 14], [15], [5, 6], [16, 17, 18, 19]]
WHOLE = [(*title, END) for title in TITLES]
TWINS = (1, 4)
PROMPTS = [[30, 31, 32, 33, 34], [40], [50, 51, 52]]  # of three lengths, so two are padded


def allowed_behind(prefix, whole=WHOLE):
    """The tokens that go on from a prefix, by looking at every sequence."""
    return sorted({sequence[len(prefix)] for sequence in whole if sequence[: len(prefix)] == prefix != sequence})


def guide(prefix, probabilities, pool="sum"):
    """Log-probability of a prefix's last token by another model of the items."""

    def mass(start):
        own = [float(p) for p, s in zip(probabilities, WHOLE, strict=True) if s[: len(start)] == start]
        return sum(own) if pool == "sum" else max(own)

    siblings = sum(mass((*prefix[:-1], token)) for token in allowed_behind(prefix[:-1]))
    return torch.tensor(mass(prefix) / siblings, dtype=torch.float64).log()


@torch.no_grad()
def brute_force(model, rule, item_logprobs=None):
    """(E, N) scores, every sequence behind every prompt in a row of its own."""
    table = torch.zeros(len(PROMPTS), len(WHOLE), dtype=torch.float64)
    for row, prompt in enumerate(PROMPTS):
        for column, sequence in enumerate(WHOLE):
            logits = model(torch.tensor([[*prompt, *sequence]])).logits[0, len(prompt) - 1 : -1]
            for place, token in enumerate(sequence):
                choices = allowed_behind(sequence[:place])
                step = logits[place, token] - (logits[place, choices] if rule.constrained else logits[place]).logsumexp(
                    0
                )
                if item_logprobs is not None:
                    other = guide(sequence[: place + 1], item_logprobs[row].exp())
                    step = rule.guidance * step + (1 - rule.guidance) * other
                if len(choices) > 1 or not (rule.constrained or rule.skip_forced):
                    table[row, column] += step
            table[row, column] /= len(sequence) ** rule.length_power
    return table
