"""Losses, crashes, intrusions and leaks under attack: kills, damaged and hostile files, requests.

Run from the repository's root:

    python benchmarks/robust.py [--kills 100] [--mutations 5000] [--hostile 400] [--requests 1000] [--seed 0]
                                [--json FILE]

Prints, and writes as JSON: ``kills`` of running commands and how many files of the user's were ``lost`` by them or
results were wrong afterwards; ``mutations`` of scans of every format and ``hostile`` files (networks, cards, palettes,
instruments, scans, links, names), how many ``crashes`` came of both (an error that is not the user's to mend, a signal,
over 1 GiB of memory or 30 s), and how many hostile files were ``accepted``; ``requests`` to the viewer, and how many
``leaks`` they found; with the faults in words. Exits with 1 where one of these is not zero.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "io"), str(TESTS.parent / "src")]
MAX_MORE_MB = 1024.0
MAX_S = 30.0


@dataclass
class Counts:
    """Number of attempts, outcomes, and each fault in words."""

    kills: int = 0
    lost: int = 0
    mutations: int = 0
    crashes: int = 0
    hostile: int = 0
    accepted: int = 0
    requests: int = 0
    leaks: int = 0
    faults: list[str] = field(default_factory=list)


def mutate(n: int, seed: int) -> tuple[int, list[str]]:
    """Read damaged files of every format; return how many there were, and in words which of them crashed."""
    import pytest
    from hypothesis import HealthCheck, given, settings
    from hypothesis import seed as seeded
    from hypothesis import strategies as st
    from robust_damage import damaged, damaged_folder
    from robust_samples import MAKERS
    from test_robust_files import Reader, ScanFiles

    reader, crashes, n_read = Reader(), [], 0
    with tempfile.TemporaryDirectory() as place:
        wholes = []
        for name, maker in MAKERS.items():
            folder = Path(place) / "whole"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            try:
                target = maker(folder)
            except pytest.skip.Exception:
                continue
            files = {
                str(entry.relative_to(folder)): entry.read_bytes()
                for entry in sorted(folder.rglob("*"))
                if entry.is_file()
            }
            wholes.append((name, ScanFiles(files, target)))

        def attempt(name: str, original: ScanFiles, data: st.DataObject) -> None:
            nonlocal n_read
            if len(original.files) > 1:
                files = damaged_folder(data, original.files)
            else:
                files = {file: damaged(data, content) for file, content in original.files.items()}
            n_read += 1
            try:
                answer = reader.read(original.write(Path(place) / "scan", files))
            except pytest.fail.Exception as failed:
                crashes.append(f"{name}: {failed}")
                return
            if answer["outcome"] not in {"read", "refused"}:
                crashes.append(f"{name}: {answer['text'][-800:]}")
            elif answer["more_mb"] > MAX_MORE_MB or answer["seconds"] > MAX_S:
                crashes.append(f"{name}: {answer['more_mb']:.0f} MB, {answer['seconds']:.0f} s")

        def examples(name: str, original: ScanFiles, number: int) -> None:
            @seeded(seed + n_read)
            @settings(max_examples=number, deadline=None, database=None, suppress_health_check=list(HealthCheck))
            @given(data=st.data())
            def each(data: st.DataObject) -> None:
                attempt(name, original, data)

            each()

        # the first scan sets the worker's bound on memory, and has to be whole
        reader.read(wholes[0][1].write(Path(place) / "scan", wholes[0][1].files))
        while n_read < n:
            for name, original in wholes:
                if n_read < n:
                    examples(name, original, min(-(-n // len(wholes)), n - n_read))
    reader.end()
    return n_read, crashes


def attack(kills: int, mutations: int, hostile: int, requests: int, seed: int) -> Counts:
    """Attack in all four ways; those that the system does not support are left out, and counted as none."""
    from kills import tally_of
    from viewer_requests import leaks_of

    counts = Counts()
    if kills:
        tally = tally_of(kills, seed)
        counts.kills, counts.lost = tally.kills, len(tally.faults)
        counts.faults += tally.faults
        _print_line(f"{counts.kills} kills, {counts.lost} lost")
    if mutations:
        counts.mutations, crashed = mutate(mutations, seed)
        counts.crashes += len(crashed)
        counts.faults += crashed
        _print_line(f"{counts.mutations} mutations, {len(crashed)} crashes")
    if hostile:
        from hostile_files import try_hostile

        counts.hostile, accepted, crashed = try_hostile(hostile, seed)
        counts.accepted, counts.crashes = len(accepted), counts.crashes + len(crashed)
        counts.faults += accepted + crashed
        _print_line(f"{counts.hostile} hostile files, {counts.accepted} accepted, {len(crashed)} crashes")
    if requests:
        counts.requests, leaks = leaks_of(requests, seed)
        counts.leaks = len(leaks)
        counts.faults += leaks
        _print_line(f"{counts.requests} requests, {counts.leaks} leaks")
    return counts


def _print_line(line: str) -> None:
    print(line, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Attack, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    for name, number in (("kills", 100), ("mutations", 5000), ("hostile", 400), ("requests", 1000), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=number, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    counts = attack(options.kills, options.mutations, options.hostile, options.requests, options.seed)
    for fault in counts.faults:
        _print_line(ascii(fault))
    if options.json is not None:
        options.json.write_text(json.dumps(asdict(counts), indent=2) + "\n", encoding="utf-8")
    return int(any((counts.lost, counts.crashes, counts.accepted, counts.leaks)))


if __name__ == "__main__":
    sys.exit(main())
