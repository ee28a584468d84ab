"""The parts of the storage over Google Cloud Storage."""
