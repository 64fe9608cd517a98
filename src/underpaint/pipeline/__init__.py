"""From a scan to results: what is done with each block, and the run as a whole."""
