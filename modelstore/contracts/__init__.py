"""What storages and managers promise, as tests; `modelstore.testing` is the way in."""
