"""pods/log, pods/binding and their like."""
