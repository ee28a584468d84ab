"""The parts of the storage over fsspec."""
