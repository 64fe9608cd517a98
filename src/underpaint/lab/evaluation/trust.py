"""The whole suite: what an answer is worth, from five sides, in one record."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from underpaint.errors import OutputError
from underpaint.lab.evaluation.plan import TrustPlan
from underpaint.lab.evaluation.record import assembled
from underpaint.lab.evaluation.simulated import palette_for
from underpaint.lab.evaluation.stages import Progress
from underpaint.lab.evaluation.suite import Inputs, Suite
from underpaint.runtime.files import plain, write_json


def evaluate_trust(
    target: str | Path, inputs: Inputs, plan: TrustPlan | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Run the suite and write its record; the same call goes on where an interrupted one stopped.

    Parameters
    ----------
    target : path
        JSON file. Finished stages are kept beside it, in a folder of the same name that ends in ``.parts``.
    inputs : Inputs
    plan : TrustPlan, optional
    progress : callable, optional
        Called with (what is being done, done, in all).

    Returns
    -------
    dict
        ``group_macro_f1``, ``order_accuracy``, ``order_bound``, ``ece``, ``coverage``, ``openset_auroc``,
        ``auroc_aurora``, ``spearman_aurora``, ``kappa_aurora``, ``per_s``, ``train_minutes``; ``baselines`` with the
        same names; ``details``; ``about``. What was left out is None.

    Raises
    ------
    OutputError
        The file holds the record of a whole run, which a smaller one would replace.
    """
    path, plan = Path(target), plan or TrustPlan()
    complete = not plan.quick and not inputs.missing
    _refuse_to_shrink(path, complete=complete)
    suite = Suite(path.with_suffix(".parts"), inputs, plan, progress or (lambda _what, _done, _all: None))
    details = suite.run()
    figures = assembled(details)
    record = plain(figures | {"details": details, "about": _about(suite, complete=complete)})
    write_json(path, record)
    return dict(record)


def _refuse_to_shrink(path: Path, *, complete: bool) -> None:
    if complete or not path.is_file():
        return
    try:
        whole = json.loads(path.read_text("utf-8")).get("about", {}).get("complete", False)
    except (ValueError, AttributeError):
        return
    if whole:
        raise OutputError(
            f"Cannot write {path}: it holds the record of a whole run, and this one is quick or leaves out the Monte "
            "Carlo panels (--reference) or the scan's two detectors (--scan, twice). Choose another --json."
        )


def _about(suite: Suite, *, complete: bool) -> dict[str, Any]:
    """Return what the figures stand on."""
    card = suite.model.card
    packages = ("underpaint", "numpy", "scipy", "xraylib", "onnxruntime")
    return {
        "suite": "trust",
        "complete": complete,
        "quick": suite.plan.quick,
        "left_out": suite.inputs.missing,
        "model": {"name": card.name, "version": card.version, "kind": card.kind, "sha256": suite.digest},
        "plan": suite.plan.model_dump(mode="json", exclude={"workers", "threads"}),
        "palette": palette_for(card),
        "versions": {package: version(package) for package in packages},
        "seconds": suite.stages.seconds(),
        "notes": [
            "Simulated means by this package's forward model: held-out seeds, structures and instruments.",
            "Scores count labels that show at the counts at hand; a composite pigment counts as its groups.",
            "Monte Carlo panels are by another code (XMI-MSIM); aurora is measured and has no labels.",
            *(["Quick sizes: the figures only show that the path works."] if suite.plan.quick else []),
        ],
    }
