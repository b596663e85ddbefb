"""Mutating and validating webhooks (admissionregistration.k8s.io/v1)."""
