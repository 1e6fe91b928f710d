"""Who was on the node: marks, CPU time and memory, GPUs."""
