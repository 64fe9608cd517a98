"""Networks, their training and evaluation, and the reproduction of Xu et al., 2022."""
