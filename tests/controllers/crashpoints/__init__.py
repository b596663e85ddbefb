"""Crash points: every scenario run once for each write that its controllers make, killed right before and right after it, with a frozen copy, and with two leaders."""
