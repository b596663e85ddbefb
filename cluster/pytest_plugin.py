"""pytest fixtures for clusters."""
