"""Maximum-likelihood fits of candidate stratigraphies, for the evaluation of layer order and as a baseline."""
