"""Infrastructure of long tasks: atomic files, locks, resuming, executors, threads, untrusted input."""
