"""PEFT: the adapters of a model, and the base model under them."""
