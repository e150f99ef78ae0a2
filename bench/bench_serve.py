"""Load and torture of `clapedge serve`: 64 clients, bad uploads, slow clients, disconnects, swaps, SIGTERM.

    python bench/bench_serve.py [--seconds 120] [--bundle build/bench/bundle]

The clients are this process, the service is another one, both on this machine. The aim: at least 0.9 of the files a
second that `clapedge bench` embeds side by side, no error but 429, memory within 50 MB, nothing lost, nothing leaked.
"""

import argparse
import json
import os
import platform
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from clapedge.diagnostics.benchmark import write_recording
from load import Process, Tally, ask, loaded, percentile, served, spread
from service_report import write_report

ROOT = Path(__file__).parents[1]
BUNDLE = ROOT / "build" / "bench" / "bundle"
RESULTS = ROOT / "bench" / "results" / "serve.json"
PATH = "/v1/score?label_set=home"
CLIENTS, BAD_UPLOADS, SLOW, CUT = 64, 10_000, 200, 500
WARM_SECONDS = 10
"""After which every session has its memory: drift is counted from there."""

PACKAGES = ("onnxruntime", "numpy", "fastapi", "uvicorn")


def throughput(bundle: Path) -> float:
    """Return the files a second of `clapedge bench`, for the INT8 variant."""
    command = [sys.executable, "-m", "clapedge.cli", "bench", "--bundle", str(bundle), "--precision", "int8", "--json"]
    done = subprocess.run([*command, "--runs", "20"], capture_output=True, check=True, text=True)  # noqa: S603 - ours
    return float(json.loads(done.stdout)[0]["files_per_second"])


def load(process: Process, body: bytes, seconds: float) -> dict[str, Any]:
    """Let 64 clients ask for a while."""
    memory: list[float] = []
    with loaded(process, CLIENTS, PATH, body) as tally:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            time.sleep(1.0)
            memory.append(process.holds()["memory_mb"])
    counted = memory[min(WARM_SECONDS, len(memory) // 2) :]
    return {
        "clients": CLIENTS,
        "seconds": seconds,
        **answers_of(tally),
        "requests_per_second": round(tally.statuses[200] / seconds, 1),
        "memory_mb": {"from": counted[0], "to": counted[-1], "most": max(counted)},
        "memory_drift_mb": round(max(counted) - counted[0], 1),
    }


def bad_uploads(process: Process, body: bytes) -> dict[str, Any]:
    """Send torn, cut, empty and nonsensical uploads."""
    tally = Tally()

    def one(number: int) -> None:
        chance = random.Random(number)  # noqa: S311 - the same uploads in every run
        cut = body[: chance.randrange(20_000)]
        torn = bytearray(cut)
        for _ in range(20 if torn else 0):
            torn[chance.randrange(len(torn))] = chance.randrange(256)
        form = b"--b\r\nContent-Disposition: form-data; name=file; filename=../../x\r\n\r\n" + cut
        in_form = {"Content-Type": "multipart/form-data; boundary=b"}
        kinds: list[tuple[bytes, dict[str, str]]] = [
            (cut[:40], {}),
            (bytes(torn), {}),
            (chance.randbytes(2000), {}),
            (b"", {}),
            (form, in_form),
            (form[: len(form) // 2], in_form),
            (cut, in_form),
        ]
        content, headers = kinds[number % len(kinds)]
        connection = process.connect()
        ask(connection, PATH, content, headers, tally)
        connection.close()

    spread(BAD_UPLOADS, 16, one)
    return {"uploads": BAD_UPLOADS, **answers_of(tally)}


def slow_clients(process: Process, body: bytes) -> dict[str, Any]:
    """Let clients send a byte a second, some within the head and some within the body, beside one that is quick."""
    head = b"POST /v1/score?label_set=home HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n"
    slow = [socket.create_connection(process.address) for _ in range(SLOW)]
    for number, connection in enumerate(slow):
        connection.sendall(head if number % 2 else head + b"\r\n")
        connection.settimeout(0.001)
    tally, quick = Tally(), process.connect()
    began = time.monotonic()
    open_ones = slow
    while open_ones and time.monotonic() - began < 60:  # noqa: PLR2004 - far beyond the service's patience
        open_ones = [connection for connection in open_ones if _drips(connection)]
        ask(quick, PATH, body, {}, tally)
        time.sleep(0.2)
    quick.close()
    return {"clients": SLOW, "given_up_after_s": round(time.monotonic() - began, 1), "beside": answers_of(tally)}


def _drips(connection: socket.socket) -> bool:
    """Send a byte; return whether the service still reads."""
    try:
        connection.sendall(b"x")
        came = connection.recv(4096)
    except TimeoutError:
        return True
    except OSError:
        came = b""
    if not came:
        connection.close()
    return bool(came)


def disconnects(process: Process, body: bytes) -> dict[str, Any]:
    """Leave in the middle of uploads, and right behind them."""
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()

    def one(number: int) -> None:
        with socket.create_connection(process.address) as connection:
            connection.sendall(head + (body if number % 2 else body[: len(body) // 2]))

    spread(CUT, 16, one)
    time.sleep(2)
    tally, after = Tally(), process.connect()
    ask(after, PATH, body, {}, tally)
    after.close()
    return {"clients": CUT, "after": answers_of(tally)}


def swaps(bundle: Path, temporary: Path, body: bytes) -> dict[str, Any]:
    """Swap bundles under load, to a damaged one and to two good ones; then end under load."""
    place = temporary / "bundles"
    for name in ("v1", "v2", "v3"):
        shutil.copytree(bundle, place / name, copy_function=os.link)
    link = temporary / "current"
    damaged = place / "v2" / "audio.int8.onnx"
    content = damaged.read_bytes()
    damaged.unlink()
    damaged.write_bytes(content[:-1] + b"x")
    link.symlink_to(place / "v1")
    with served(["--bundle", str(link), "--precision", "int8"], temporary / "files") as process:
        with loaded(process, 16, PATH, body) as tally:
            for name, logged in (("v2", "refused"), ("v3", "serving"), ("v1", "serving")):
                (temporary / "next").symlink_to(place / name)
                (temporary / "next").replace(link)
                _wait_for(process, logged)
                time.sleep(3)
        with loaded(process, 16, PATH, body) as ending:
            time.sleep(2)
            took = process.terminate()
    log = [line.split(" ", 2)[-1] for line in process.log if "refused" in line or "serving" in line]
    asked = {"swap": answers_of(tally), "sigterm": {**answers_of(ending), "refused_afterwards": ending.refused}}
    return {**asked, "sigterm_s": round(took, 2), "exit_status": process.exit_status, "log": log}


def _wait_for(process: Process, words: str) -> None:
    """Wait until a new line of the log holds some words."""
    known = len(process.log)
    ends = time.monotonic() + 60
    while not any(words in line for line in process.log[known:]) and time.monotonic() < ends:
        time.sleep(0.1)


def answers_of(tally: Tally) -> dict[str, Any]:
    """Return the answers of clients, and how long they took."""
    figures = {f"p{q}_ms": round(1e3 * percentile(tally.seconds, q), 1) for q in (50, 99)} if tally.seconds else {}
    return {"statuses": dict(sorted(tally.statuses.items())), "lost": dict(tally.lost), **figures}


def measure(bundle: Path, seconds: float) -> dict[str, Any]:
    """Do everything, and print as it goes."""
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as directory:
        temporary = Path(directory)
        recording = temporary / "recording.wav"
        write_recording(recording)
        body = recording.read_bytes()
        rates = [throughput(bundle)]
        with served(["--bundle", str(bundle), "--precision", "int8"], temporary / "one") as process:
            results["idle"] = process.holds()
            results["load"] = show("load", load(process, body, seconds))
            rates.append(throughput(bundle))  # the service rests meanwhile
            for name, torture in (("bad uploads", bad_uploads), ("slow clients", slow_clients), ("cut", disconnects)):
                outcome = torture(process, body)
                time.sleep(2)
                results[name] = show(name, {**outcome, "holds": process.holds()})
        results["swap and end"] = show("swap and end", swaps(bundle, temporary / "two", body))
    results["bench_files_per_second"] = rates
    results["of_bench"] = round(results["load"]["requests_per_second"] / max(rates), 3)
    return show("all", results) and results


def show(name: str, figures: dict[str, Any]) -> dict[str, Any]:
    """Print figures and return them."""
    print(f"{name}: {json.dumps(figures)}", flush=True)
    return figures


def main() -> None:
    """Measure, print and keep the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0, help="how long 64 clients ask (default 120)")
    parser.add_argument("--bundle", type=Path, default=BUNDLE, help="a full-size bundle with INT8 and text tower")
    options = parser.parse_args()
    if not (options.bundle / "manifest.json").exists():
        sys.exit(f"{options.bundle} is not a bundle; bench/bench_peers.py makes it, or name another with --bundle")
    busy = round(os.getloadavg()[0], 1)
    results = measure(options.bundle, options.seconds)
    about: dict[str, Any] = {"machine": platform.machine(), "cores": os.cpu_count(), "load_average_before": busy}
    about |= {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}
    RESULTS.parent.mkdir(exist_ok=True)
    unfinished = RESULTS.with_suffix(".tmp")
    unfinished.write_text(json.dumps({"about": about, "results": results}, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(RESULTS)
    write_report(about, results, ROOT / "docs" / "measured" / "service.md")
    print(f"\nkept in bench/results/{RESULTS.name}, and written into docs/measured/service.md")


if __name__ == "__main__":
    main()
