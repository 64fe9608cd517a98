"""Where networks are made and measured: networks, training, evaluation, reproduction of Xu et al. 2022."""
