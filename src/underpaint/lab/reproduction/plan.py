"""Size of the reproduction: the paper's protocol, or a small run for a check."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Plan(BaseModel):
    """Sizes, epochs and seeds of a reproduction; the defaults are the paper's where the paper states them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    out: Path
    mockups: Path | None = Field(None, description="measured mock-ups: a folder of spectra, or a scan; None: virtual")
    labels: Path | None = Field(None, description="CSV table of what is in the measured mock-ups")
    grid_step: int = Field(1, ge=1, description="take every n-th of the 16,224 simulated stratigraphies")
    materials: Literal["table2", "table1"] = Field(
        "table2",
        description="which thirteen make the grid: table2, the abbreviations of its footnote; table1, its twelve with "
        "chalk, and the substitute of emerald green",
    )
    mockup_spectra: int = Field(6604, ge=320, description="virtual mock-up spectra of the 64 structures together")
    counts: float = Field(1e5, gt=0, description="mean counts of a mock-up spectrum, 10 s of an ELIO")
    folds: int = Field(5, ge=2, le=5)
    epochs: int = Field(150, ge=1, description="most epochs of the pre-training")
    patience: int = Field(4, ge=1, description="epochs without a better validation loss before it stops")
    dense_epochs: int = Field(10, ge=1, description="most epochs of fine-tuning the dense layer alone")
    finetune_epochs: int = Field(30, ge=1, description="most epochs of fine-tuning all layers")
    study_step: int = Field(8, ge=1, description="the share of the grid that ablations and comparisons are trained on")
    draws: int = Field(40, ge=2, description="draws of counts for each point of the limits")
    precision: Literal["32", "bf16"] = "bf16"
    seed: int = Field(2022, ge=0, description="of the splits, the weights and the counts")
    mockup_seed: int = Field(64, ge=0, description="of the virtual mock-ups: drawn once, never tuned to results")


def quick(out: Path) -> Plan:
    """Return a plan that runs the same steps in a few minutes; its figures are meaningless."""
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
