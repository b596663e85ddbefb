"""What is brought into a cluster, or brings one up, from outside: compose files, units, and add-ons that run as pods."""
