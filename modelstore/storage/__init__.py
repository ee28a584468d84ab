"""Storages: bytes under keys, somewhere.

`base.py` says what a storage promises; each other module that is named after a place is one. They know nothing of what
the bytes mean, and nothing else in modelstore knows where they lie.
"""
