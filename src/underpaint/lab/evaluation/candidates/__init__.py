"""Candidates of layers fitted by maximum likelihood, for the bounds of layer order and a baseline."""
