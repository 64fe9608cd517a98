"""How work is done and kept: atomic files, locks, executors, threads, text from outside."""
