"""What admission decides from objects alone: which rules apply, what a webhook is asked and what its answer means, quotas, limits, pod security."""
