"""What Services and names cost: rule changes, connections through a ClusterIP, and DNS beside another server."""
