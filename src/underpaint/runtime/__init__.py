"""Infrastructure for long tasks: atomic files, locks, resuming, executors, threads and untrusted input."""
