"""Connecting to a Ray cluster, starting a local one, and how many workers fit on it."""

from __future__ import annotations

import io
import logging
import math
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, TextIO

from ppcore.errors import UserError
from ppgen.options import EngineOptions

Reservation = dict[str, float]
"""What one worker reserves, in Ray's names: `{"CPU": 1.0, "GPU": 0.5}`."""

_OBJECT_STORE_BYTES = 80 << 20  # about Ray's minimum: only small records pass between processes
_CONNECT_S = 10.0
_UNITS = 10_000  # Ray counts resources in ten-thousandths


def load_ray() -> Any:
    """The module `ray`. Raises UserError if it is not installed."""
    try:
        import ray  # optional: only for --engine ray
    except ImportError as error:
        raise UserError(f"--engine ray needs Ray ({error}); pip install 'pptransfer[generate]'") from error
    return ray


def check_reservation(device: str, cpus: float, gpus: float | None) -> None:
    """Raise UserError if the device is one GPU by number, or if a worker cannot reserve so many CPUs and GPUs."""
    if device.startswith("cuda:"):
        raise UserError(
            f"--device {device} names a GPU of one machine, but Ray chooses the GPUs of workers; give --device cuda"
        )
    if not 0 < cpus < math.inf:
        raise UserError(f"--cpus-per-worker is {cpus:g}; give a number above zero")
    if gpus is not None and not (0 <= gpus < math.inf and (gpus <= 1 or gpus == int(gpus))):
        raise UserError(f"--gpus-per-worker is {gpus:g}; give a whole number, or a fraction below 1")


def make_reservation(device: str, options: EngineOptions) -> Reservation:
    """What one worker reserves. Without --gpus-per-worker: one GPU if the device is CUDA, or `auto` and the cluster has GPUs.

    Raises:
        UserError: see :func:`check_reservation`.
    """
    cpus = 1.0 if options.cpus_per_worker is None else options.cpus_per_worker
    gpus = options.gpus_per_worker
    check_reservation(device, cpus, gpus)
    if gpus is None:
        found = load_ray().cluster_resources().get("GPU", 0.0) if device == "auto" else 0.0
        gpus = 1.0 if device == "cuda" or found else 0.0
    return {"CPU": cpus, "GPU": gpus}


def describe(reservation: Reservation) -> str:
    """`1 CPU and 0.5 GPU`."""
    return " and ".join(f"{amount:g} {name}" for name, amount in reservation.items() if amount)


def capacity(reservation: Reservation, nodes: Iterable[dict[str, Any]]) -> int:
    """How many workers the live ones of `nodes`, as `ray.nodes()` lists them, can hold if nothing else runs there."""
    return sum(_fit(node["Resources"], reservation) for node in nodes if node["Alive"])


def require_room(reservation: Reservation, grows: bool) -> None:
    """Raise UserError if a cluster to which no node can be added has no room for a worker."""
    if not grows and capacity(reservation, load_ray().nodes()) == 0:
        raise UserError(
            f"this machine has no room for a worker of {describe(reservation)}; ask for less with --cpus-per-worker or "
            f"--gpus-per-worker, or give the --address of a cluster"
        )


def _fit(resources: dict[str, float], reservation: Reservation) -> int:
    wanted = {name: _units(amount) for name, amount in reservation.items() if amount}
    return min(_units(resources.get(name, 0.0)) // units for name, units in wanted.items())


def _units(amount: float) -> int:
    return max(round(amount * _UNITS), 0)


@contextmanager
def cluster(address: str | None, cpus: float = 1.0) -> Iterator[bool]:
    """Connect to Ray for the time of a run; yields whether other nodes can join. A process that is connected stays connected.

    Args:
        address: of a running cluster; None starts one on this machine and stops it afterwards.
        cpus: CPUs that the local cluster offers at least, even if the machine has fewer.

    Raises:
        UserError: no Ray answers at that address, or it has another version.
    """
    ray = load_ray()
    if ray.is_initialized():
        yield True
        return
    options: dict[str, Any] = {"address": address}
    if address is None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a local run sends no usage statistics
        os.environ.setdefault(
            "RAY_worker_niceness", "0"
        )  # the niceness of the command; Ray sets 15, which is too slow on a busy machine
        options = {
            "address": "local",  # not the cluster that RAY_ADDRESS may name
            "include_dashboard": False,
            "num_cpus": max(len(os.sched_getaffinity(0)), math.ceil(cpus)),
            "object_store_memory": _OBJECT_STORE_BYTES,
        }
    else:
        require_listener(address)
    _connect(options)
    try:
        with redirect_stdout(_WithoutRay(sys.stdout)):
            yield address is not None
    finally:
        ray.shutdown()


class _WithoutRay(io.TextIOBase):
    """Standard output without the messages of Ray's own threads: they report every lost worker, and so does the driver."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        if threading.current_thread().name.startswith("ray_"):
            return len(text)
        return self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()


def require_listener(address: str) -> None:
    """Raise UserError if nothing listens at an address. Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return  # "auto", or a mistake that Ray reports at once
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"nothing answers at --address {address} ({error}); give the host:port that ray start --head printed, or leave "
            f"--address out to work on this machine"
        ) from error


def _connect(options: dict[str, Any]) -> None:
    """Call ray.init without its signal handler and its log lines."""
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray = load_ray()
        # With this flag Ray does not make its workers search the driver's working directory first, where a types.py may be.
        job = ray.job_config.JobConfig(_client_job=True)
        ray.init(log_to_driver=False, logging_level=logging.ERROR, job_config=job, **options)
    except SystemExit:
        if callable(handler):  # SIGTERM arrived while Ray's own handler was installed
            handler(signal.SIGTERM, None)
        raise
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = f"Ray at {options['address']}" if options["address"] != "local" else "a local Ray"
        reason = " ".join(str(error).split())
        raise UserError(
            f"cannot use {where} ({reason}); start it with ray start --head and the same versions of Ray and Python, "
            f"or leave --address out to work on this machine"
        ) from error
    finally:
        if in_main:
            signal.signal(signal.SIGTERM, handler)
