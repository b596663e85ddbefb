"""The scheduler, by the workloads of upstream's scheduler_perf: decisions of the algorithm alone, and pods through a real apiserver."""
