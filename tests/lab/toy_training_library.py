"""A random library: each name has one line, its height is the share of the pigment."""

import json
from pathlib import Path

import h5py
import numpy as np


def write_toy_library(path: Path, *, n: int = 200, n_bin: int = 64, n_name: int = 3, bin_kev: float = 0.04) -> Path:
    rng = np.random.default_rng(0)
    labels = (rng.random((n, n_name)) < 0.5).astype(np.uint8)
    expected = np.full((n, n_bin), 0.2)
    for name in range(n_name):
        expected[:, (name + 1) * n_bin // (n_name + 1)] += 10 * labels[:, name] * rng.uniform(0.3, 1, n)
    expected /= expected.sum(axis=1, keepdims=True)
    names = [f"pigment_{index}" for index in range(n_name)]
    with h5py.File(path, "w") as file:
        file["expected"] = expected.astype(np.float16)
        file["recorded"] = np.tile(np.array([[1.0, 1.0 + n_bin * bin_kev]], dtype=np.float32), (n, 1))
        file["labels"] = labels
        file["counts_needed"] = np.where(labels, 500.0, np.inf).astype(np.float32)
        file["source"] = np.arange(n) // 2
        file.attrs.update(start_kev=1.0, bin_kev=bin_kev, n_bin=n_bin, names=json.dumps(names))
        file.attrs["kinds"] = json.dumps(["group"] + ["member"] * (n_name - 1))
        file.attrs["groups"] = json.dumps([[names[0]]] * n_name)
        file.attrs["labels_for_people"] = json.dumps([name.replace("_", " ") for name in names])
        file.attrs["elements"] = json.dumps([["Hg_L"]] * n_name)
    return path
