"""How many spectra a second the trained networks answer.

    python benchmarks/network_speed.py [--model default --model xu2022] [--threads 2] [--json FILE]

Prints spectra per second with onnxruntime on counts that are in memory already, and
the size of each file. Without a model of that name, a fresh default network of 60 names is exported and measured,
which is as fast as a trained one (needs the train extra).
"""

import argparse
import json
import tempfile
from pathlib import Path

from underpaint.errors import ModelError
from underpaint.lab.evaluation.suite import spectra_per_second
from underpaint.pigments.predict import open_model
from underpaint.pigments.weights import ModelAxis, ModelCard, model_path

_N_NAME = 60


def fresh_default_model(folder: Path) -> Path:
    """Export a default network with random weights."""
    from underpaint.lab.networks import DefaultNetwork
    from underpaint.lab.training import export

    names = tuple(f"name_{index}" for index in range(_N_NAME))
    card = ModelCard(
        name="fresh",
        axis=ModelAxis(start_kev=1.0, bin_kev=0.04, n_bin=1000),
        names=names,
        kinds=("member",) * _N_NAME,
        groups=((),) * _N_NAME,
        labels=names,
        elements=((),) * _N_NAME,
    )
    return export(DefaultNetwork(1000, _N_NAME), card, folder)


def measure(name: str, threads: int, seconds: float) -> dict[str, object]:
    """Open a model, or a fresh one where there is none of that name yet, and measure it."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = model_path(name)
        except ModelError:
            path = fresh_default_model(Path(folder))
        model = open_model(path, threads=threads)
        model_name = model.card.name
        return {
            f"{model_name}_spectra_per_s": round(spectra_per_second(model, seconds)),
            f"{model_name}_file_mb": round(path.stat().st_size / 1e6, 2),
        }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", help="name of a shipped model, or path; default and xu2022 if none")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    result: dict[str, object] = {"threads": arguments.threads}
    for name in arguments.model or ("default", "xu2022"):
        result |= measure(name, arguments.threads, arguments.seconds)
    print(json.dumps(result, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
