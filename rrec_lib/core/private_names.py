"""Every private name of another library that the project uses, each behind one small function.

A release may drop such a name, or change what it does, without a word. Nothing else in the library reads or writes
them; ``tests/core/test_private_names.py`` tries each one and names the function to mend.
"""

from typing import Any

CHECKED = {  # private name -> versions of its library with which the test passed
    "transformers: config._attn_implementation": ("5.23.0",),
    "transformers: config._pre_quantization_dtype": ("5.23.0",),
}


def attention_of(model: Any) -> str:
    """The attention that a Transformers model computes with, such as ``"sdpa"`` or ``"eager"``.

    There is a public way to set it, ``model.set_attn_implementation``, and none to read it.
    """
    return str(model.config._attn_implementation)


def forget_quantization(config: Any) -> None:
    """Remove from a configuration, in place, that its weights were quantised, once they no longer are."""
    for attribute in ("quantization_config", "_pre_quantization_dtype"):
        if hasattr(config, attribute):
            delattr(config, attribute)
