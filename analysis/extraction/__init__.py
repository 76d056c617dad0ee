"""Features of many lesions at once: a pool of processes, one lesion a process."""
