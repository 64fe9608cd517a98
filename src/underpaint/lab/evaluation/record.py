"""The figures of the suite by the names that they are known by."""

from typing import Any

PAPER = "xu2022"
"""The shipped network that stands for the paper's."""
AURORA = ("auroc", "spearman")


def assembled(details: dict[str, Any]) -> dict[str, Any]:
    """Return the figures by the names that they are known by."""
    calibrated, aurora, opened = details["calibration"], details["aurora"], details["open_set"]["by_counts"]
    by_counts = details["order"]["by_counts"]
    return {
        "group_macro_f1": _group_macro_f1(details),
        "order_accuracy": {counts: own["refined"]["accuracy"] for counts, own in by_counts.items()},
        "order_accuracy_network": {counts: own["network"]["accuracy"] for counts, own in by_counts.items()},
        "order_bound": {counts: own["bound"]["accuracy"] for counts, own in by_counts.items()},
        "ece": calibrated["ece"],
        "coverage": calibrated["coverage"],
        "openset_auroc": opened[max(opened, key=float)]["auroc"],
        "auroc_aurora": aurora.get("auroc"),
        "spearman_aurora": aurora.get("spearman"),
        "kappa_aurora": _least(aurora.get("kappa")),
        "kappa_aurora_bound": aurora.get("kappa_of_halves"),
        "per_s": details["speed"]["spectra_per_second"]["model"],
        "train_minutes": _train_minutes(details),
        "baselines": _baselines(details),
    }


def _group_macro_f1(details: dict[str, Any]) -> dict[str, Any]:
    finetuned = details["structure_out_finetuned"]
    return {
        "simulated": macros(details["simulated"]["by_counts"]),
        "unseen_instrument": details["unseen_instrument"]["mean"],
        "monte_carlo": _panel_macros(details["monte_carlo"], "model"),
        "structure_out": details["structure_out"]["by_contestant"]["model"]["macro_f1"],
        "structure_out_finetuned": finetuned.get("macro_f1"),
    }


def _baselines(details: dict[str, Any]) -> dict[str, Any]:
    """Return the baselines' figures under the same names."""
    table: dict[str, Any] = {}
    for who, own in details["baselines"]["by_contestant"].items():
        if who == "model":
            continue
        table[who] = {
            "group_macro_f1": {
                "simulated": macros(own["by_counts"]),
                "monte_carlo": _panel_macros(details["monte_carlo"], who),
                "structure_out": details["structure_out"]["by_contestant"][who]["macro_f1"],
                "fitted": details["likelihood_fit"]["by_contestant"][who]["macro_f1"],
            },
            "ece": own["ece"],
        }
    aurora, paper = details["aurora"], details["aurora_xu2022"]
    table[PAPER] |= {
        "auroc_aurora": paper.get("auroc"),
        "spearman_aurora": paper.get("spearman"),
        "kappa_aurora": _least(paper.get("kappa")),
        "per_s": details["speed"]["spectra_per_second"][PAPER],
    }
    fitted = details["likelihood_fit"]
    table["likelihood_fit"] = {
        "group_macro_f1": {"fitted": fitted["by_contestant"]["likelihood_fit"]["macro_f1"]},
        "per_s": 1.0 / fitted["seconds_per_spectrum"],
    }
    table["line_area"] = {
        **{f"{key}_aurora": aurora.get(f"baseline_{key}") for key in AURORA},
        "kappa_aurora": _least(aurora.get("baseline_kappa")),
    }
    return table


def _panel_macros(panels: dict[str, Any], who: str) -> dict[str, float] | None:
    return macros(panels["by_contestant"][who]) if "by_contestant" in panels else None


def macros(by_counts: dict[str, Any]) -> dict[str, float]:
    """Return the macro F1 at each number of counts."""
    return {counts: own["macro_f1"] for counts, own in by_counts.items()}


def _least(values: dict[str, float | None] | None) -> float | None:
    """Return the least of the figures that are defined."""
    return min((value for value in (values or {}).values() if value is not None), default=None)


def _train_minutes(details: dict[str, Any]) -> float | None:
    """Return how long the model for one instrument and palette took."""
    minutes = details["own_model"].get("minutes")
    return float(sum(minutes.values())) if minutes else None
