"""Tries hostile files: one job (JSON) a line on standard input, each in a fork with bounds on memory and time.

What became of a file is answered as JSON: ``refused`` (with the words), ``read``, ``traceback``, or ``killed``.
"""

import contextlib
import io as text_io
import json
import os
import resource
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np
from robust_worker import read_whole, resident_bytes

from underpaint import io
from underpaint.cli import main as command_line
from underpaint.data import EnergyAxis, Scan
from underpaint.errors import UnderpaintError
from underpaint.io.results.pictures import picture_digest, registration_of
from underpaint.io.results.regions import read_regions
from underpaint.lab.training.settings import load_settings
from underpaint.physics.forward.source import source_spectrum
from underpaint.physics.instrument import load_instrument, read_source_spectrum
from underpaint.physics.materials import load_palette
from underpaint.pigments.predict import identify, open_model
from underpaint.simulate.explicit import load_job
from underpaint.simulate.recipes import load_recipe

MORE_BYTES = 2**30
MOST_S = 30


def use_model(path: str) -> str:
    """Map a small scan with the network."""
    model = open_model(path, threads=1)
    start, stop = model.card.axis.start_kev, model.card.axis.stop_kev
    axis = EnergyAxis((stop - start) / 64, start, 66)
    maps = identify(Scan(np.random.default_rng(0).poisson(5.0, (3, 3, 66)) + 1, axis=axis), model)
    return maps.model_name


def use_instrument(path: str) -> str:
    """Compute what a tube sends."""
    energy, _, _ = source_spectrum(load_instrument(path))
    return f"{energy.size} energies"


def use_results(path: str) -> str:
    """Read all of a results folder that is text."""
    folder = Path(path)
    results = io.read_results(folder, lazily=False)
    texts = [str(results)]
    for reader in (read_regions, registration_of, picture_digest):
        with contextlib.suppress(UnderpaintError):
            texts.append(str(reader(folder)))
    return " ".join(texts)


def show(path: str) -> str:
    """Return all that ``info`` and ``info --json`` write to the terminal."""
    written = []
    for options in ([], ["--json"]):
        out = text_io.TextIOWrapper(text_io.BytesIO(), "utf-8", errors="backslashreplace", write_through=True)
        sys.argv = ["underpaint", "info", path, *options]
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out), contextlib.suppress(SystemExit):
            command_line()
        out.seek(0)
        written.append(out.read())
    return "\n".join(written)


ACTIONS: dict[str, Any] = {
    "model": use_model,
    "palette": lambda path: load_palette(path).name,
    "instrument": use_instrument,
    "source": lambda path: str(len(read_source_spectrum(path).energy_kev)),
    "scan": read_whole,
    "results": use_results,
    "job": lambda path: str(load_job(path))[:100],
    "recipe": lambda path: str(load_recipe(path))[:100],
    "settings": lambda path: str(load_settings(path))[:100],
    "show": show,
    # what the measure has to see
    "flood": lambda _: len(bytearray(3 * MORE_BYTES)),
    "abort": lambda _: os.abort(),
}


def attempt(job: dict[str, str]) -> dict[str, str]:
    """Try a file in this process; return what became of it."""
    limit = resident_bytes("VmSize") + MORE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.alarm(MOST_S)
    try:
        return {"outcome": "read", "text": str(ACTIONS[job["action"]](job["path"]))}
    except UnderpaintError as error:
        return {"outcome": "refused", "text": str(error)}
    except BaseException:
        return {"outcome": "traceback", "text": traceback.format_exc()[-3000:]}


def main() -> None:
    """Answer until standard input ends."""
    answers, errors = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(2, 1)
    for line in sys.stdin:
        receive, send = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(receive)
            os.dup2(errors, 2)
            with os.fdopen(send, "w") as stream:
                json.dump(attempt(json.loads(line)), stream)
            os._exit(0)
        os.close(send)
        with os.fdopen(receive) as stream:
            text = stream.read()
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        answer = text if text.endswith("}") else json.dumps({"outcome": "killed", "text": f"code {code}"})
        os.write(answers, (answer + "\n").encode())


if __name__ == "__main__":
    main()
