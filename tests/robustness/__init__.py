"""Robustness of the store: traffic, faults, model, validate, report. See docs/robustness.md."""
