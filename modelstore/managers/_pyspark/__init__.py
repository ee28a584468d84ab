"""What Spark's own folders of models take: a session, a place that the cluster sees, metadata that are looked over."""
