"""The parts of the Transformers manager."""
