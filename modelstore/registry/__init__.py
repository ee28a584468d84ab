"""Domains, models, states and their history: append-only logs, and what follows from them."""
