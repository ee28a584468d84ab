"""The parts of the TensorFlow manager: Keras objects and their code, SavedModels."""
