"""An autoencoder learns to reconstruct spectra, for which it needs no labels."""

import lightning.pytorch as lightning
import numpy as np
import torch
from numpy.typing import NDArray

from underpaint.errors import TrainingError
from underpaint.lab.networks import AutoencoderNetwork
from underpaint.lab.training import Library, TrainSettings
from underpaint.lab.training.loop import best_loss, finished, first_epoch, fit, open_folder
from underpaint.lab.training.module import ReconstructionModule
from underpaint.lab.training.split import Split, split_by_source
from underpaint.runtime.files import write_json


def pretrain_autoencoder(library: Library, rows: NDArray[np.int64], settings: TrainSettings) -> AutoencoderNetwork:
    """Teach an autoencoder to reconstruct spectra; the same call continues a run that was interrupted.

    Parameters
    ----------
    library : Library
        Spectra; their labels are not looked at.
    rows : (n,) array
        Rows to learn from; leave those of a test out. ``settings.validation_share`` of their stratigraphies are kept
        for early stopping.
    settings : TrainSettings
        Of kind "autoencoder". ``settings.out`` receives ``last.ckpt``, ``best.ckpt`` and ``reconstruction.json``; it
        has to be another folder than that of the training that follows.

    Returns
    -------
    AutoencoderNetwork
        The encoder of the best epoch under a fresh dense layer: what :func:`underpaint.lab.training.train` takes as
        ``network``.

    Raises
    ------
    TrainingError
        The settings are of another kind, there are no pigments to answer, the rows are too few to split, or the
        folder holds a run with other settings.
    """
    n_class = len(library.names)
    _check(settings, n_class)
    lightning.seed_everything(settings.seed, verbose=False)
    network = AutoencoderNetwork(library.axis.n_bin, n_class)
    module = ReconstructionModule(network, library.axis.n_bin, settings)
    last = open_folder(settings)
    resume = last if last.is_file() else None
    if not finished(resume, settings):
        fit(module, library, _split(library, rows, settings), settings, resume)
    best = torch.load(settings.out / "best.ckpt", map_location="cpu", weights_only=True)
    module.cpu().load_state_dict(best["state_dict"])
    figures = {"epochs": first_epoch(last), "validation_loss": best_loss(last)}
    write_json(settings.out / "reconstruction.json", figures)
    return network


def _check(settings: TrainSettings, n_class: int) -> None:
    if settings.kind != "autoencoder":
        raise TrainingError(
            f'Cannot learn to reconstruct spectra with a network of kind {settings.kind!r}: only "autoencoder" has a '
            'bottleneck. Set kind = "autoencoder".'
        )
    if n_class < 1:
        raise TrainingError(
            f"Cannot build the dense layer for {n_class} pigments: the library has no names. Give one that has "
            "those of the training that follows."
        )


def _split(library: Library, rows: NDArray[np.int64], settings: TrainSettings) -> Split:
    own = split_by_source(
        library.source[rows], seed=settings.seed, validation_share=settings.validation_share, test_share=0.0
    )
    return Split(train=rows[own.train], validation=rows[own.validation], test=rows[own.test])
