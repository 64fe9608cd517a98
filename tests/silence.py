"""Runs a command where no network can be reached, and tells as JSON what it asked for and which files it left.

Called as ``unshare -rnm python silence.py FOLDER COMMAND...`` it has a network of its own, of loopback alone, whose
name server is this script: what libraries written in C look up is seen, too.
"""

import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path
from threading import Thread

SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1


def raise_loopback() -> None:
    """Bring up the loopback device of this network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as device:
        fcntl.ioctl(device, SIOCSIFFLAGS, struct.pack("16sH14s", b"lo", IFF_UP, b""))


def listen(queries: list[str]) -> None:
    """Take down what is asked of the name server, in a thread."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))

    def take() -> None:
        while True:
            content, _ = server.recvfrom(2048)
            queries.append(ascii(content[12:60]))

    Thread(target=take, daemon=True).start()


def main() -> None:
    """Listen, run, tell."""
    folder, command = Path(sys.argv[1]), sys.argv[2:]
    raise_loopback()
    (folder / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    subprocess.run(["mount", "--bind", str(folder / "resolv.conf"), "/etc/resolv.conf"], check=True)
    queries: list[str] = []
    listen(queries)
    # the measure itself: a look-up has to be seen
    subprocess.run([sys.executable, "-c", "import socket; socket.gethostbyname('control.example')"], check=False,
                   stderr=subprocess.DEVNULL)  # fmt: skip
    n_control, home = len(queries), folder / "home"
    home.mkdir()
    inherited = {
        key: os.environ[key] for key in ("PATH", "PYTHONPATH", "OMP_NUM_THREADS", "PYTHONWARNINGS") if key in os.environ
    }
    places = {f"XDG_{name}_HOME": str(home / name.lower()) for name in ("CACHE", "CONFIG", "DATA", "STATE")}
    env = {**inherited, **places, "HOME": str(home), "TMPDIR": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, check=False, env=env, cwd=folder, capture_output=True, text=True)
    files = sorted(str(path.relative_to(home)) for path in home.rglob("*") if not path.is_dir())
    answer = {"control": n_control, "queries": queries[n_control:], "files": files, "code": done.returncode}
    print(json.dumps({**answer, "words": done.stderr[-2000:]}))  # noqa: T201


if __name__ == "__main__":
    main()
