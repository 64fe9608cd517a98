"""From a scan to results: the processing of each block, and the run as a whole."""
