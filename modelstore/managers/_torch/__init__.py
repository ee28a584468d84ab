"""How PyTorch's objects become files: storages, plain values, modules, optimizers. `pytorch.py` puts them together."""
