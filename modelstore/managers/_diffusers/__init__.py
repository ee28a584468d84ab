"""Diffusers: the parts of a pipeline, each written and built by its own class."""
