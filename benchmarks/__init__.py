"""One script per claim about speed; each runs the rivals in turn on the same model, prompts and lengths."""
