"""Models and records on their way out of a store, and models on their way in: files, copies, a table of all records."""
