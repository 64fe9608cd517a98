"""Files that somebody hostile has prepared, each with what has to become of it, tried in a process with bounds.

``try_hostile(n, seed)`` is all that others need: ONNX graphs, model cards, palettes, instruments and other settings,
scans that pretend to be large, links out of a results folder, and names that a terminal would obey.
"""

import json
import os
import re
import select
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WORKER = Path(__file__).with_name("hostile_worker.py")
HANGS_AFTER_S = 120.0
SECRET = "the-private-text-of-another-folder"  # noqa: S105
N_BIN = 16
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
Write = Callable[[Path], str]


@dataclass(frozen=True)
class Hostile:
    """A file to be written into a folder, and what has to become of it.

    Parameters
    ----------
    name : str
    action : str
        One of the worker's: what is done with the file.
    write : callable
        Writes into a folder, and returns the name of what is opened.
    wanted : str
        ``refused``: with an error that is the user's to mend. ``shown``: text of the file is shown, and nothing that a
        terminal obeys. ``bounded``: read or refused, in bounded memory and time, without what lies elsewhere.
    """

    name: str
    action: str
    write: Write
    expected: str = "refused"


# --- networks -----------------------------------------------------------------------------------------------


def _card(**changes: Any) -> dict[str, Any]:
    card = {
        "name": "toy",
        "axis": {"start_kev": 1.0, "bin_kev": 0.5, "n_bin": N_BIN},
        "names": ["mercury", "lead"],
        "kinds": ["group", "group"],
        "groups": [["mercury"], ["lead"]],
        "labels": ["mercury pigment", "lead pigment"],
        "elements": [["Hg_L"], ["Pb_L"]],
    }
    return {key: value for key, value in {**card, **changes}.items() if value is not None}


def _network(nodes: list[Any] | None = None, weights: dict[str, Any] | None = None, **options: Any) -> Any:
    """A network of a dense layer; further nodes make ``bias``, which is added."""
    values = {"weight": np.full((N_BIN, 2), 0.01, np.float32)} | (weights or {})
    after = [helper.make_node("Add", ["product", "bias"], ["log_odds"])] if nodes else []
    graph = helper.make_graph(
        [
            *(nodes or []),
            helper.make_node("MatMul", ["counts", "weight"], ["product" if nodes else "log_odds"]),
            *after,
            helper.make_node("Sigmoid", ["log_odds"], ["probability"]),
        ],
        "toy",
        [helper.make_tensor_value_info("counts", TensorProto.FLOAT, ["n", N_BIN])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in ("log_odds", "probability")],
        [value if isinstance(value, onnx.TensorProto) else numpy_helper.from_array(value, key)
         for key, value in values.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9, **options)


def _write_model(network: Any, folder: Path) -> str:
    content = network if isinstance(network, bytes) else network.SerializeToString()
    (folder / "toy.onnx").write_bytes(content)
    (folder / "toy.json").write_text(json.dumps(_card()))
    return "toy.onnx"


def _make_model(make: Callable[[], Any], folder: Path) -> str:
    return _write_model(make(), folder)


def _shaped(*sizes: int, operator: str = "ConstantOfShape") -> Any:
    """A network that makes a tensor of a given shape, and adds its sum."""
    shape = np.array(sizes, np.int64)
    nodes = [helper.make_node(operator, ["shape"] if operator == "ConstantOfShape" else ["one", "shape"], ["large"])]
    nodes.append(helper.make_node("ReduceMax", ["large"], ["bias"], keepdims=0))
    return _network(nodes, {"shape": shape, "one": np.ones((1,) * len(sizes), np.float32)})


def _product(size: int, n_times: int) -> Any:
    """Squares a matrix again and again."""
    nodes = [helper.make_node("MatMul", [f"m{k}", f"m{k}"], [f"m{k + 1}"]) for k in range(n_times)]
    nodes.append(helper.make_node("ReduceMax", [f"m{n_times}"], ["bias"], keepdims=0))
    nodes.insert(0, helper.make_node("Expand", ["zero", "shape"], ["m0"]))
    return _network(nodes, {"zero": np.zeros((1, 1), np.float32), "shape": np.array([size, size], np.int64)})


def _external(location: str) -> Any:
    weight = onnx.TensorProto(name="weight", data_type=1, dims=[N_BIN, 2], data_location=1)
    for key, value in (("location", location), ("offset", "0"), ("length", str(4 * 2 * N_BIN))):
        entry = weight.external_data.add()
        entry.key, entry.value = key, value
    return _network(weights={"weight": weight})


def _loop(kind: str) -> Any:
    body = helper.make_graph(
        [helper.make_node("Identity", ["going"], ["goes_on"]), helper.make_node("Add", ["sum", "sum"], ["more"])],
        "body",
        [helper.make_tensor_value_info("k", 7, []), helper.make_tensor_value_info("going", 9, []),
         helper.make_tensor_value_info("sum", 1, [])],
        [helper.make_tensor_value_info("goes_on", 9, []), helper.make_tensor_value_info("more", 1, [])],
    )  # fmt: skip
    weights = {"times": np.array(2**62), "true": np.array(True), "zero": np.array(0, np.float32)}
    if kind == "Loop":
        return _network([helper.make_node("Loop", ["times", "true", "zero"], ["bias"], body=body)], weights)
    then = helper.make_graph(
        [helper.make_node("Identity", ["zero"], ["then"])], "t", [], [helper.make_tensor_value_info("then", 1, [])]
    )
    return _network([helper.make_node("If", ["true"], ["bias"], then_branch=then, else_branch=then)], weights)


def _nested(depth: int) -> Any:
    graph = helper.make_graph([], "inner", [], [])
    for _ in range(depth):
        graph = helper.make_graph([helper.make_node("If", ["c"], ["x"], then_branch=graph)], "g", [], [])
    return _network([helper.make_node("If", ["c"], ["bias"], then_branch=graph)])


def _sparse() -> Any:
    network = _network()
    values = numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(np.zeros(1, np.int64)), [2**40])
    network.graph.sparse_initializer.append(sparse)
    return network


def _functions() -> Any:
    network = _network([helper.make_node("Mine", ["counts"], ["bias"], domain="local")])
    node = helper.make_node("Identity", ["x"], ["y"])
    network.functions.append(helper.make_function("local", "Mine", ["x"], ["y"], [node], []))
    network.opset_import.append(helper.make_opsetid("local", 1))
    return network


def _declared(dims: list[int], data_type: int = 1) -> Any:
    large = onnx.TensorProto(name="large", data_type=data_type, dims=dims, raw_data=b"\0" * 8)
    return _network([helper.make_node("ReduceMax", ["large"], ["bias"], keepdims=0)], {"large": large})


def _custom(domain: str) -> Any:
    network = _network([helper.make_node("Custom", ["counts"], ["bias"], domain=domain)])
    network.opset_import.append(helper.make_opsetid(domain, 1))
    return network


def _filled(value: float) -> Any:
    return _network(weights={"weight": np.full((N_BIN, 2), value, np.float32)})


def _answer(operator: str, weights: dict[str, Any], *inputs: str, **attributes: Any) -> Any:
    """A network whose probabilities are made by another operator, from the log-odds."""
    network = _network(weights=weights)
    network.graph.node.pop()
    network.graph.node.append(helper.make_node(operator, ["log_odds", *inputs], ["probability"], **attributes))
    return network


def _typed(element: int) -> Any:
    network = _network()
    network.graph.input[0].type.tensor_type.elem_type = element
    return network


def _renamed(old: str, new: str) -> bytes:
    return bytes(_network().SerializeToString().replace(old.encode(), new.encode()))


def _networks() -> Iterator[Hostile]:
    text = _network().SerializeToString()
    made: dict[str, Callable[[], Any]] = {
        f"shape {' x '.join(map(str, sizes))} of {operator}": partial(_shaped, *sizes, operator=operator)
        for sizes in ((2**40,), (2**62,), (-1,), (100_000, 100_000), (2**31, 2**31), (1000,) * 6)
        for operator in ("ConstantOfShape", "Expand", "Tile")
        if not (operator == "Tile" and sizes == (-1,))
    }
    made |= {f"matrix of {size}, {n} times": partial(_product, size, n) for size, n in ((4000, 400), (30_000, 2))}
    made |= {
        f"weights at {location}": partial(_external, location)
        for location in ("/etc/passwd", "../secret.bin", "toy.json", "/dev/zero", "C:\\x", "\\\\server\\share")
    }
    made |= {f"{kind} in a graph": partial(_loop, kind) for kind in ("Loop", "If")}
    made |= {f"graphs {depth} deep": partial(_nested, depth) for depth in (3, 20)}
    made |= {
        f"operators of {domain}": partial(_custom, domain)
        for domain in ("com.microsoft", "evil", "ai.onnx.ml", "\x1b[2J")
    }
    made |= {f"weights of {dims}": partial(_declared, dims) for dims in ([2**40], [2**31, 2**31], [2**62, 4], [-1, -9])}
    made |= {f"weights of {value}": partial(_filled, value) for value in (np.nan, np.inf, -np.inf, 3e38)}
    made |= {f"input of type {element}": partial(_typed, element) for element in (7, 8, 11, 10)}
    made |= {
        "sparse weights": _sparse,
        "functions": _functions,
        "string weights": partial(_declared, [2**33], 8),
        "probabilities above one": partial(_answer, "Mul", {"two": np.array(2, np.float32)}, "two"),
        "probabilities that are no numbers": partial(_answer, "Sqrt", {"weight": -np.ones((N_BIN, 2), np.float32)}),
        "probabilities of another shape": partial(_answer, "Transpose", {}, perm=[1, 0]),
        "nothing": lambda: b"",
        "zeros": lambda: b"\0" * 5000,
        "ones": lambda: b"\xff" * 5000,
        "half": lambda: text[: len(text) // 2],
        "two": lambda: text + text[: len(text) // 3],
        "flat buffer": lambda: b"\x18\0\0\0ORTM" + b"\0" * 500,
        "many fields": lambda: text + b"\x08\x01" * 400_000,
        "another output": partial(_renamed, "probability", "probabilitx"),
        "another input": partial(_renamed, "counts", "countz"),
        "a large file": lambda: text + b"\x1a" + b"\xff\xff\xff\x3f" + b"\0" * (80 * 2**20),
    }
    for name, make in made.items():
        yield Hostile(f"onnx: {name}", "model", partial(_make_model, make))


def _write_card(card: Any, folder: Path) -> str:
    _write_model(_network(), folder)
    content = card if isinstance(card, bytes) else json.dumps(card).encode("utf-8", "surrogatepass")
    (folder / "toy.json").write_bytes(content)
    return "toy.onnx"


def _cards() -> Iterator[Hostile]:
    def axis(**changes: Any) -> dict[str, Any]:
        return {"axis": {"start_kev": 1.0, "bin_kev": 0.5, "n_bin": N_BIN, **changes}}

    texts = ("\x1b[2J", "\x1b]0;title\x07", "a\0b", "a\rb", "a\nb", "\x9b31m", "\u202egnp.exe", "x" * 100_000, "\x7f")
    no_names: tuple[Any, ...] = ("mercury", 7, {}, [], ["mercury"], ["mercury", "mercury"], [1, 2], [[], []])
    no_ranges: tuple[Any, ...] = ([float("nan"), 1.0], [1.0], "x", [1, 2, 3])
    bins: tuple[Any, ...] = (0, -1, 10**9, 10**400, 1.5, "many", None)
    widths: tuple[Any, ...] = (0.0, -1.0, float("nan"), float("inf"), 1e300, [])
    changes: list[dict[str, Any]] = [
        *({"names": [text, "lead"]} for text in texts),
        *({"labels": ["mercury pigment", text]} for text in texts[:4]),
        *({field: texts[1]} for field in ("name", "version", "package_version")),
        *({"limits": [text]} for text in texts[:3]),
        *(axis(n_bin=n_bin) for n_bin in bins),
        *(axis(bin_kev=width) for width in widths),
        *(axis(start_kev=start) for start in (float("nan"), 1e300, "x")),
        *({"names": value} for value in no_names),
        *({"names": ["mercury.nowhere", "lead"]}, {"kinds": ["group", "king"]}, {"groups": ["a", "b"]}),
        *({"narrowest_kev": ranges} for ranges in no_ranges),
        {"names": [f"n{k}" for k in range(20_000)]},
        {"unknown": 1},
        {"kind": "evil"},
        {"sets": {"names": ["mercury"], "levels": [0.9], "counts": [0, 1], "present_from": [], "absent_to": []}},
        {"composition": "x"},
        {"training": {"n_spectra": 10**400}},
    ]
    for number, change in enumerate(changes):
        yield Hostile(f"card {number}: {str(change)[:60]!a}", "model", partial(_write_card, _card(**change)))
    contents = {
        "empty": b"",
        "deep": b"[" * 100_000,
        "deep tables": b'{"a":' * 100_000,
        "deep figures": json.dumps(_card()).encode()[:-1] + b', "figures": {"x": ' + b"[" * 9000 + b"]" * 9000 + b"}}",
        "bytes": b"\xff\xfe" * 100,
        "null": b"null",
        "list": b"[]",
        "number": b"9" * 10_000,
        "large": b'{"name": "' + b"x" * (20 * 2**20) + b'"}',
        "cut": json.dumps(_card()).encode()[:-3],
    }
    for name, content in contents.items():
        yield Hostile(f"card: {name}", "model", partial(_write_card, content))


# --- settings -----------------------------------------------------------------------------------------------

_SPOILED = {
    "empty": b"",
    "no toml": b"<html>",
    "bytes": b"\xff\xfe\0\0" * 9,
    "deep lists": b"x = " + b"[" * 50_000,
    "deep tables": b"x = " + b"{a=" * 50_000,
    "deep names": b"a" + b".a" * 100_000 + b" = 1",
    "long number": b"x = " + b"9" * 9000,
    "large": b"x = '" + b"y" * (5 * 2**20) + b"'",
    "control characters": b'name = "\x1b[2J"\n',
}


def _write_text(text: str | bytes, folder: Path) -> str:
    (folder / "x.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    return "x.toml"


def _palettes() -> Iterator[Hostile]:
    good = 'pigments = ["vermilion", "lead white"]\n'
    texts = [
        *(f"{key} = {value}\n{good}" for key in ("first", "last") for value in ("nan", "inf", "-1e9", "true", '"x"')),
        *(f"first = {value}\n{good}" for value in ("99999999999", "-99999999999", "[1600]")),
        *(f"{key} = {value}\n{good}" for key in ("name", "label", "painter") for value in ("7", "[]", '"\\u001b[2J"')),
        *(
            f"pigments = {value}\n"
            for value in ("[]", "7", '"vermilion"', '[""]', "[7]", "[[]]", '["\\u001b]0;x\\u0007"]')
        ),
        "pigments = [" + '"vermilion",' * 200_000 + "]\n",
        "pigments = ['" + "v" * 1_000_000 + "']\n",
        "pigments = ['[red]no pigment[/red]']\n",
        f"name = '{'x' * 100_000}'\n{good}",
        f"unknown = 1\n{good}",
    ]
    for number, text in enumerate(texts):
        yield Hostile(f"palette {number}: {text[:40]!a}", "palette", partial(_write_text, text))


def _instruments() -> Iterator[Hostile]:
    tube = ("nan", "inf", "-40.0", "0.0", "1e300", '"x"', "[]")
    formulas = ("(" * 5000, "Xx", "", "H" * 100_000, "\x1b[2J", "Fe0", "H" + "9" * 400, "H1e9", "[red]")
    texts = [
        *(f"[tube]\nvoltage_kv = {value}\n" for value in tube),
        *(f"[tube]\nanode = {value}\n" for value in ('"Xx"', '"H"', "7", '"\\u001b[2J"', '"' + "R" * 9999 + '"')),
        *(f"[detector]\nn_channel = {value}\n" for value in ("0", "-1", "1000000000", "1.5", "99999999999999999999")),
        *(f"[detector]\ngain_kev = {value}\n" for value in ("0.0", "-1.0", "nan", "1e9")),
        *(f"[[filters]]\nformula = {json.dumps(formula)}\ndensity = 2.7\nthickness_um = 1.0\n" for formula in formulas),
        *(
            f"[[filters]]\nformula = 'Al'\ndensity = {density}\nthickness_um = 1.0\n"
            for density in ("-1.0", "nan", "1e9")
        ),
        *(
            f"[[filters]]\nformula = 'Al'\ndensity = 2.7\nthickness_um = {thickness}\n"
            for thickness in ("-1.0", "nan", "1e300")
        ),
        "[[filters]]\nformula = 'Al'\ndensity = 2.7\nthickness_um = 1.0\n" * 10_000,
        *(f"name = {value}\n" for value in ('"\\u001b]0;x\\u0007"', '"a\\rb"', "7", "'" + "x" * 100_000 + "'")),
        "[source_spectrum]\nenergy_kev = [" + "1.0," * 300_000 + "]\nweight = [" + "1.0," * 300_000 + "]\n",
        "[source_spectrum]\nenergy_kev = [-1.0]\nweight = [1.0]\n",
        "[source_spectrum]\nenergy_kev = [nan]\nweight = [1.0]\n",
        "[optic]\nenergy_kev = [1.0, 1.0]\ntransmission = [1.0, 1.0]\n",
        "unknown = 1\n",
    ]
    for number, text in enumerate(texts):
        yield Hostile(f"instrument {number}: {text[:50]!a}", "instrument", partial(_write_text, text))
    for name, text in {"nan": "1 nan\n", "words": "a b\nc d\n", "ragged": "1 2\n1 2 3\n", "zeros": "\0" * 90}.items():
        yield Hostile(f"source spectrum: {name}", "source", partial(_write_text, text))


def _settings() -> Iterator[Hostile]:
    for action in ("palette", "instrument", "job", "recipe", "settings"):
        for name, content in _SPOILED.items():
            # an instrument, and training settings, may leave all to what is usual
            if (action, name) not in {("instrument", "empty")}:
                yield Hostile(f"{action}: {name}", action, partial(_write_text, content))


# --- scans --------------------------------------------------------------------------------------------------


def _self_reference(folder: Path) -> str:
    with h5py.File(folder / "a.h5", "w") as file:
        layout = h5py.VirtualLayout((4, 4, 64), "u4")
        layout[...] = h5py.VirtualSource("a.h5", "counts", (4, 4, 64))
        file.create_virtual_dataset("counts", layout)
    return "a.h5"


def _circle(folder: Path) -> str:
    for name, other in (("a.h5", "b.h5"), ("b.h5", "a.h5")):
        with h5py.File(folder / name, "w") as file:
            layout = h5py.VirtualLayout((4, 4, 64), "u4")
            layout[...] = h5py.VirtualSource(other, "counts", (4, 4, 64))
            file.create_virtual_dataset("counts", layout)
    return "a.h5"


def _virtual(shape: tuple[int, ...], folder: Path) -> str:
    """A virtual dataset that is larger than what it is made of."""
    with h5py.File(folder / "a.h5", "w") as file:
        file["small"] = np.ones((1, 1, 8), np.uint16)
        layout = h5py.VirtualLayout(shape, "u2")
        layout[:1, :1, :8] = h5py.VirtualSource("a.h5", "small", (1, 1, 8))
        file.create_virtual_dataset("counts", layout)
        del file["small"]
    return "a.h5"


def _hollow(shape: tuple[int, ...], folder: Path) -> str:
    """A chunked dataset of which nothing is written."""
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("counts", shape, "u2", chunks=(1, *shape[1:2], min(shape[2], 1024)))
    return "a.h5"


def _linked_file(folder: Path) -> str:
    (folder / "private").mkdir()
    with h5py.File(folder / "private" / "b.h5", "w") as file:
        file["counts"] = np.ones((4, 4, 64), np.uint16)
        file["counts"].attrs["note"] = SECRET
    (folder / "scan").mkdir()
    with h5py.File(folder / "scan" / "a.h5", "w") as file:
        file["counts"] = h5py.ExternalLink("../private/b.h5", "/counts")
    return "scan/a.h5"


def _npz(head: tuple[int, ...], n_byte: int, folder: Path) -> str:
    """Zeros that were packed, with a head that says how many there are."""
    with (
        zipfile.ZipFile(folder / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("counts.npy", "w") as out,
    ):
        text = f"{{'descr': '<u2', 'fortran_order': False, 'shape': {head}, }}".ljust(117) + "\n"
        out.write(b"\x93NUMPY\x01\x00v\x00" + text.encode())
        for _ in range(n_byte // 2**20):
            out.write(bytes(2**20))
    return "a.npz"


def _xml(name: str, content: str, folder: Path) -> str:
    (folder / name).write_text(content)
    return name


def _laughs() -> str:
    lines = "".join(f'<!ENTITY l{k} "{f"&l{k - 1};" * 10}">' for k in range(1, 12))
    return f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY l0 "ha">{lines}]><x>&l11;</x>'


def _scans() -> Iterator[Hostile]:
    yield Hostile("hdf5: refers to itself", "scan", _self_reference)
    yield Hostile("hdf5: two refer to each other", "scan", _circle)
    for shape in ((1000, 1000, 4096), (100_000, 100_000, 4096), (2**31, 2**20, 64), (3, 3, 2**40)):
        yield Hostile(f"hdf5: virtual, {shape}", "scan", partial(_virtual, shape))
        yield Hostile(f"hdf5: hollow, {shape}", "scan", partial(_hollow, shape), "bounded")
    yield Hostile("hdf5: link to another folder", "scan", _linked_file)
    for shape, n_byte in (((2**20, 2**20, 64), 2**20), ((-1, 4, 4), 2**20), ((1000, 1000, 2**30), 2**22)):
        yield Hostile(f"npz: {shape}", "scan", partial(_npz, shape, n_byte))
    yield Hostile("npz: packed zeros", "scan", partial(_npz, (1000, 500, 1024), 2**30), "bounded")
    entity = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>'
    for ending in ("spx", "rtx", "bcf"):
        yield Hostile(f"{ending}: a billion laughs", "scan", partial(_xml, f"a.{ending}", _laughs()))
        yield Hostile(f"{ending}: an outside entity", "scan", partial(_xml, f"a.{ending}", entity))
        yield Hostile(f"{ending}: deep", "scan", partial(_xml, f"a.{ending}", "<x>" * 200_000))


# --- results and names --------------------------------------------------------------------------------------


def _results(folder: Path) -> Path:
    from underpaint.data.maps import Results
    from underpaint.io import write_results

    (folder / "private").mkdir()
    for name in ("regions.json", "photograph.jpg", "x.h5", "photograph.json", "settings.json"):
        (folder / "private" / name).write_text(SECRET)
    ones = np.ones((4, 5, 1), np.float32)
    made = folder / "results"
    write_results(made, Results.of_lines(("Fe_K",), ones, ones))
    return made


def _linked_results(name: str, folder: Path) -> str:
    made = _results(folder)
    with h5py.File(folder / "private" / "results.h5", "w") as file:
        file.attrs["note"] = SECRET
    (made / name).unlink(missing_ok=True)
    (made / name).symlink_to(folder / "private" / name)
    return "results"


def _pipe(name: str, folder: Path) -> str:
    made = _results(folder)
    (made / name).unlink(missing_ok=True)
    os.mkfifo(made / name)
    return "results"


def _linked_inside(kind: str, folder: Path) -> str:
    made = _results(folder)
    with h5py.File(folder / "private" / "out.h5", "w") as file:
        file["area"] = np.full((4, 5, 1), 7.0)
        file["text"] = SECRET
    with h5py.File(made / "results.h5", "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        target = next(name for name in names if isinstance(file[name], h5py.Dataset))
        del file[target]
        if kind == "external":
            file[target] = h5py.ExternalLink(str(folder / "private" / "out.h5"), "/text")
        else:
            layout = h5py.VirtualLayout((4, 5, 1), "f8")
            layout[...] = h5py.VirtualSource(str(folder / "private" / "out.h5"), "area", (4, 5, 1))
            file.create_virtual_dataset(target, layout)
    return "results"


def _links() -> Iterator[Hostile]:
    yield Hostile("results: results.h5 is a link", "results", partial(_linked_results, "results.h5"))
    for name in ("regions.json", "photograph.jpg", "photograph.json"):
        yield Hostile(f"results: {name} is a link", "results", partial(_linked_results, name), "bounded")
    yield Hostile("results: results.h5 is a pipe", "results", partial(_pipe, "results.h5"))
    yield Hostile("results: regions.json is a pipe", "results", partial(_pipe, "regions.json"), "bounded")
    for kind in ("external", "virtual"):
        yield Hostile(f"results: {kind} link inside", "results", partial(_linked_inside, kind))


NAMES = (
    "\x1b[2Jcleared",
    "\x1b]0;title\x07named",
    "\x9b31mred",
    "[red]markup[/red]",
    "[link=https://example.org]here[/link]",
    "a\rb",
    "\u202egnp.5h",
    "[/]closing",
    ":smile: [bold",
    "\x08\x08\x7fgone",
    "%s %d {x} {0}",
    r"a $\frac{x$ b_{",
)


def _named(name: str, folder: Path) -> str:
    """A scan of this name, whose note and metadata have the same text."""
    from underpaint.data import EnergyAxis, Scan
    from underpaint.io import save_scan

    path = folder / f"{name.replace('/', '-')}.h5"
    counts = np.random.default_rng(0).poisson(3.0, (3, 3, 64)).astype(np.uint16)
    scan = Scan(counts, axis=EnergyAxis(0.1, 0.0, 64), name=name, notes=(name,), metadata={"operator": name})
    save_scan(scan, folder / "plain.h5")
    (folder / "plain.h5").rename(path)
    return path.name


def _missing(name: str, folder: Path) -> str:
    return f"{name.replace('/', '-')}.h5"


def _names() -> Iterator[Hostile]:
    for name in NAMES:
        yield Hostile(f"name of a scan: {name!a}", "show", partial(_named, name), "shown")
        yield Hostile(f"name of no scan: {name!a}", "show", partial(_missing, name), "shown")


def hostile_files() -> list[Hostile]:
    """Return all."""
    rooms = (_networks, _cards, _palettes, _instruments, _settings, _scans, _links, _names)
    return [each for room in rooms for each in room()]


# --- trying them --------------------------------------------------------------------------------------------


@contextmanager
def worker() -> Iterator[Any]:
    """Start the process that tries files; yields a function (job) that returns what became of one."""
    tests = WORKER.parent
    places = [str(tests), str(tests / "io"), str(tests.parent / "src"), os.environ.get("PYTHONPATH", "")]
    quiet = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "COLUMNS": "200"}
    process = subprocess.Popen(
        [sys.executable, str(WORKER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        bufsize=1,
        env=os.environ | quiet | {"PYTHONPATH": os.pathsep.join(filter(None, places))},
    )
    requests, answers = process.stdin, process.stdout
    assert requests is not None
    assert answers is not None

    def ask(action: str, path: Path) -> dict[str, str]:
        requests.write(json.dumps({"action": action, "path": str(path)}) + "\n")
        requests.flush()
        if not select.select([answers], [], [], HANGS_AFTER_S)[0]:
            return {"outcome": "killed", "text": "no answer"}
        return dict(json.loads(answers.readline() or '{"outcome": "killed", "text": "the worker is gone"}'))

    try:
        yield ask
    finally:
        process.kill()
        process.communicate()


def judge(hostile: Hostile, answer: dict[str, str]) -> str:
    """Return "" where it was dealt with, else ``crash`` or ``accepted``."""
    outcome, text = answer["outcome"], answer["text"]
    if outcome not in {"read", "refused"}:
        return "crash"
    shown = outcome == "read" and not OBEYED.search(text)
    if hostile.expected == "shown":
        return "" if shown and ("[" not in hostile.name or "[" in text) else "accepted"
    if SECRET in text or (hostile.expected == "refused" and outcome != "refused"):
        return "accepted"
    return "" if outcome == "read" or (text.startswith(("Cannot", "No ")) and len(text) < 4000) else "accepted"


def try_hostile(n: int | None = None, seed: int = 0) -> tuple[int, list[str], list[str]]:
    """Try hostile files, all of them or some at random.

    Returns
    -------
    (int, list of str, list of str)
        How many were tried; in words those that were accepted, and those that ended in a crash, or took more than
        1 GiB of memory or 30 s.
    """
    files = hostile_files()
    order = np.random.default_rng(seed).permutation(len(files))[: len(files) if n is None else n]
    faults: dict[str, list[str]] = {"accepted": [], "crash": []}
    with worker() as ask, tempfile.TemporaryDirectory() as place:
        for index in order:
            hostile, folder = files[index], Path(place) / str(index)
            folder.mkdir()
            answer = ask(hostile.action, folder / hostile.write(folder))
            verdict = judge(hostile, answer)
            if verdict:
                faults[verdict].append(f"{hostile.name}: {answer['outcome']}: {answer['text'][-1500:]}")
            _remove(folder)
    return len(order), faults["accepted"], faults["crash"]


def _remove(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    folder.rmdir()
