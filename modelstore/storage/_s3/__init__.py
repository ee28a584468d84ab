"""The parts of the storage over S3."""
