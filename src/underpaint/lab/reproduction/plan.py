"""Sizes of the reproduction, for the paper's protocol or a quick test."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Plan(BaseModel):
    """Sizes, epochs and seeds of a reproduction. The defaults are the paper's values."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    out: Path
    mockups: Path | None = Field(
        None, description="measured mock-ups (folder of spectra, or scan), or None for virtual mock-ups"
    )
    labels: Path | None = Field(None, description="CSV table with the pigments of the measured mock-ups")
    grid_step: int = Field(1, ge=1, description="use every n-th of the 16,224 simulated stratigraphies")
    materials: Literal["table2", "table1"] = Field(
        "table2",
        description="source of the thirteen materials of the grid: the footnote of Table 2 (table2), or Table 1 with "
        "chalk and the substitute of emerald green (table1)",
    )
    mockup_spectra: int = Field(6604, ge=320, description="number of virtual mock-up spectra of all 64 structures")
    counts: float = Field(1e5, gt=0, description="mean total counts of a mock-up spectrum (10 s with an ELIO)")
    folds: int = Field(5, ge=2, le=5)
    epochs: int = Field(150, ge=1, description="maximum number of epochs of pre-training")
    patience: int = Field(4, ge=1, description="number of epochs without a lower validation loss before training stops")
    dense_epochs: int = Field(10, ge=1, description="maximum number of epochs of fine-tuning only the dense layer")
    finetune_epochs: int = Field(30, ge=1, description="maximum number of epochs of fine-tuning all layers")
    study_step: int = Field(8, ge=1, description="use every n-th stratigraphy for ablations and comparisons")
    draws: int = Field(40, ge=2, description="number of spectra drawn for each mass fraction of the detection limit")
    precision: Literal["32", "bf16"] = "bf16"
    seed: int = Field(2022, ge=0, description="seed of the splits, the initial weights and the counts")
    mockup_seed: int = Field(64, ge=0, description="seed of the virtual mock-ups, chosen before any results were known")


def quick(out: Path) -> Plan:
    """Return the plan of a quick test. A quick test takes minutes, and its scores have no significance."""
    return Plan(
        out=out,
        grid_step=83,
        study_step=1,
        draws=4,
        mockup_spectra=320,
        folds=2,
        epochs=2,
        patience=1,
        dense_epochs=1,
        finetune_epochs=1,
        precision="32",
    )
