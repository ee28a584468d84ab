"""The parts of the storage over Azure Blob Storage."""
