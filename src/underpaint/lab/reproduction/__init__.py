"""Reproduction of Xu et al., 2022: simulation set, virtual mock-ups, training, tables and figures."""
