"""The parts of the storage over HDFS."""
