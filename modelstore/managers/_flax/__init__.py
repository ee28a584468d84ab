"""The parts of the flax manager: arrays, the structure that holds them, and the code that it names."""
