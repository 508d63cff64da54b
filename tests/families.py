"""Tiny models of each family that the project supports, with chat templates like theirs."""

from transformers import Gemma2Config, LlamaConfig, Qwen2Config

SIZE = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
SIZE |= {"num_key_value_heads": 1, "head_dim": 12}
PLAIN = (
    "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}[end]{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + PLAIN
)
FAMILIES = {"qwen2": (Qwen2Config, PLAIN), "llama": (LlamaConfig, PLAIN), "gemma2": (Gemma2Config, NO_SYSTEM)}
