"""What the controllers cost: many replicas, many rollouts, much garbage, a full namespace, through a real apiserver and store."""
