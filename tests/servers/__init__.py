"""Real storage servers on this machine, one module each: how it is found, started and stopped."""
