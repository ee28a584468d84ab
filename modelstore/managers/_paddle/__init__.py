"""How Paddle's objects become files: tensors, skeletons, programs. `paddle.py` puts them together."""
