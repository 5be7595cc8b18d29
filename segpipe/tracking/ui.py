"""MLflow's UI over a store, on this machine only unless told otherwise."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from segpipe.errors import ConfigError, ModelError
from segpipe.tracking.store import Store, existing_store
from segpipe.tracking.view import first_page

_READY_SECONDS = 180.0  # a busy machine imports MLflow for a minute


def serve_ui(output: Path, port: int = 5000, host: str = "127.0.0.1") -> None:
    """Serve the UI until Ctrl-C; prints its address once it answers.

    Raises
    ------
    ConfigError
        The port is in use or not allowed.
    ModelError
        There is no store, or the server ended by itself.
    """
    store = existing_store(output)
    _check_port(host, port)
    with tempfile.TemporaryFile("w+") as log, _server(store, port, host, log) as server:
        try:
            _wait_until_ready(server, host, port, log)
            page = first_page(store.newest_experiment())
            print(f"MLflow: http://{_address(host)}:{port}{page} (Ctrl-C ends it)", flush=True)
            server.wait()
        except KeyboardInterrupt:
            return
        raise ModelError(f"MLflow's server ended with code {server.returncode}: {_tail(log)}")


@contextmanager
def _server(store: Store, port: int, host: str, log: IO[str]) -> Iterator[subprocess.Popen[bytes]]:
    """The server in a session of its own, ended with all its workers at the end of the block."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port)]
    command += ["--backend-store-uri", store.uri, "--registry-store-uri", store.uri]
    command += ["--no-serve-artifacts", "--default-artifact-root", store.artifacts.as_uri()]
    command += ["--workers", "1"]
    environment = os.environ | {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    server = subprocess.Popen(
        command, stdout=log, stderr=log, env=environment, start_new_session=True
    )
    # SIGINT too: a shell that starts a command in the background makes it ignore Ctrl-C.
    before = {name: signal.signal(name, _interrupt) for name in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield server
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
        _end(server)


def _interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _end(server: subprocess.Popen[bytes]) -> None:
    for ending in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, ending)
        except ProcessLookupError:
            break
        try:
            server.wait(timeout=5)
        except subprocess.TimeoutExpired:
            continue
    server.wait()


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"port {port} on {host}: expected a free port; received {error}. "
                f"Choose another, such as {port + 1}, or end the program that uses it."
            ) from error


def _wait_until_ready(server: subprocess.Popen[bytes], host: str, port: int, log: IO[str]) -> None:
    url = f"http://{_address(host)}:{port}/health"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + _READY_SECONDS
    while server.poll() is None and time.monotonic() < end:
        try:
            with direct.open(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise ModelError(f"MLflow's server did not start on {host}:{port}: {_tail(log)}")


def _address(host: str) -> str:
    if host in ("0.0.0.0", "::"):
        return "127.0.0.1" if host == "0.0.0.0" else "[::1]"
    return f"[{host}]" if ":" in host else host


def _tail(log: IO[str]) -> str:
    log.seek(0)
    lines = [line.strip() for line in log.read().splitlines() if line.strip()]
    return " | ".join(lines[-3:]) or "it said nothing"
