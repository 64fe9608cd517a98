"""Size of the suite's stages: full, or small for a quick check."""

from pydantic import BaseModel, ConfigDict, Field


class TrustPlan(BaseModel):
    """Sizes and seeds of the suite; all draws come from the seeds, independent of those of training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    quick: bool = Field(False, description="sizes that only show that the path works")
    seed: int = Field(20261122, ge=0, description="of all simulations; no training library uses it")
    workers: int | None = Field(None, ge=1, description="processes that simulate; None: one per core")
    threads: int = Field(2, ge=1, description="CPU threads of the networks")

    stratigraphies: int = Field(8000, ge=8, description="held-out structures, with a spectrum each")
    per_instrument: int = Field(32, ge=4, description="structures by random instrument")
    counts: tuple[float, ...] = Field((1e3, 1e4, 1e5, 1e6), description="counts a spectrum, for the scores by group")
    baseline_spectra: int = Field(1500, ge=8, description="of the held-out set, for baselines that are slow")
    tuning_stratigraphies: int = Field(640, ge=8, description="on which the element thresholds are chosen")
    unseen_stratigraphies: int = Field(500, ge=8, description="structures by unseen instrument")

    mockup_spectra: int = Field(6404, ge=64, description="of the 64 structures of Table 2 together")
    mockup_counts: float = Field(1e5, gt=0, description="mean counts of a mock-up's spectrum")
    folds: int | None = Field(None, ge=1, description="structures left out in turn; None: all of them")
    dense_epochs: int = Field(10, ge=1, description="most epochs of fine-tuning the dense layers alone")
    finetune_epochs: int = Field(30, ge=1, description="most epochs of fine-tuning all layers")

    panel_counts: tuple[float, ...] = (1e4, 1e5)
    panel_draws: int = Field(10, ge=1, description="draws of counts of each Monte Carlo panel")

    order_pigments: tuple[str, ...] = Field(
        (
            "lead_white", "vermilion", "azurite", "zinc_white", "titanium_white", "yellow_ochre", "viridian",
            "cobalt_blue",
        ),
        min_length=2,
        description="of different groups; every ordered pair of them is painted",
    )  # fmt: skip
    order_counts: tuple[float, ...] = (1e4, 1e5)
    order_draws: int = Field(20, ge=1, description="draws of counts of each pair")
    refined_draws: int = Field(2, ge=1, description="of them, those that the forward model is fitted to")

    open_set_spectra: int = Field(1500, ge=20)
    open_set_counts: tuple[float, ...] = (1e4, 1e5)

    fitted_spectra: int = Field(60, ge=1, description="that the forward model is fitted to")
    fitted_counts: float = 1e5
    speed_seconds: float = Field(5.0, gt=0)


def quick_plan() -> TrustPlan:
    """Return the plan of a quick check in minutes; its figures have no weight."""
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
