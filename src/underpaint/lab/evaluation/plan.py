"""Sizes of the stages of the evaluation suite, for a full run or a quick test."""

from pydantic import BaseModel, ConfigDict, Field


class TrustPlan(BaseModel):
    """Sizes and seeds of the evaluation suite."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    quick: bool = Field(False, description="small sizes, to test only that the suite runs")
    seed: int = Field(20261122, ge=0, description="seed of all simulations, which no training library uses")
    workers: int | None = Field(None, ge=1, description="simulation processes, or None for one per core")
    threads: int = Field(2, ge=1, description="CPU threads of the networks")

    stratigraphies: int = Field(8000, ge=8, description="number of held-out structures with one spectrum each")
    per_instrument: int = Field(32, ge=4, description="number of structures per random instrument")
    counts: tuple[float, ...] = Field(
        (1e3, 1e4, 1e5, 1e6), description="total counts per spectrum for the scores by group"
    )
    baseline_spectra: int = Field(1500, ge=8, description="number of held-out spectra for the slow baselines")
    tuning_stratigraphies: int = Field(
        640, ge=8, description="number of structures for the choice of the element thresholds"
    )
    unseen_stratigraphies: int = Field(500, ge=8, description="number of structures per unseen instrument")

    mockup_spectra: int = Field(6404, ge=64, description="number of spectra of the 64 mock-ups of Table 2")
    mockup_counts: float = Field(1e5, gt=0, description="mean counts of a mock-up's spectrum")
    folds: int | None = Field(None, ge=1, description="number of cross-validation folds, or None for one per structure")
    dense_epochs: int = Field(10, ge=1, description="maximum number of epochs of fine-tuning only the dense layers")
    finetune_epochs: int = Field(30, ge=1, description="maximum number of epochs of fine-tuning all layers")

    panel_counts: tuple[float, ...] = (1e4, 1e5)
    panel_draws: int = Field(10, ge=1, description="number of spectra drawn from each Monte Carlo sample")

    order_pigments: tuple[str, ...] = Field(
        (
            "lead_white", "vermilion", "azurite", "zinc_white", "titanium_white", "yellow_ochre", "viridian",
            "cobalt_blue",
        ),
        min_length=2,
        description="pigments of different groups, of which every ordered pair is simulated",
    )  # fmt: skip
    order_counts: tuple[float, ...] = (1e4, 1e5)
    order_draws: int = Field(20, ge=1, description="number of spectra drawn for each pair of pigments")
    refined_draws: int = Field(2, ge=1, description="number of spectra that are fitted for each pair of pigments")

    open_set_spectra: int = Field(1500, ge=20)
    open_set_counts: tuple[float, ...] = (1e4, 1e5)

    fitted_spectra: int = Field(60, ge=1, description="number of spectra to which the forward model is fitted")
    fitted_counts: float = 1e5
    speed_seconds: float = Field(5.0, gt=0)


def quick_plan() -> TrustPlan:
    """Return the plan of a quick test. A quick test takes minutes, and its scores have no significance."""
    return TrustPlan(
        quick=True,
        stratigraphies=256,
        per_instrument=32,
        baseline_spectra=32,
        tuning_stratigraphies=32,
        unseen_stratigraphies=32,
        mockup_spectra=128,
        folds=1,
        dense_epochs=1,
        finetune_epochs=1,
        panel_draws=2,
        order_pigments=("lead_white", "vermilion", "azurite"),
        order_draws=4,
        refined_draws=1,
        open_set_spectra=100,
        open_set_counts=(1e5,),
        fitted_spectra=1,
        speed_seconds=0.5,
    )
