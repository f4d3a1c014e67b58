"""The Ray cluster as the engine finds it: connecting, starting one here, and how many workers have room."""

from __future__ import annotations

import io
import logging
import math
import os
import signal
import socket
import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any, TextIO

from ppcore.errors import UserError

_OBJECT_STORE_BYTES = 80 << 20  # Ray's minimum, nearly: only small records pass between processes
_CONNECT_S = 10.0
_UNITS = 10_000  # Ray counts resources in ten-thousandths


def load_ray() -> Any:
    """The module. Raises UserError where it is not installed."""
    try:
        import ray  # optional: only for --engine ray
    except ImportError as error:
        raise UserError(f"--engine ray needs Ray ({error}); pip install 'pptransfer[generate]'") from error
    return ray


@dataclass(frozen=True)
class Reservation:
    """What one worker reserves.

    Attributes:
        cpus, gpus: may be fractions.
    """

    cpus: float
    gpus: float

    def __str__(self) -> str:
        return f"{self.cpus:g} CPU" + (f" and {self.gpus:g} GPU" if self.gpus else "")


def check_reservation(device: str, cpus: float, gpus: float | None) -> None:
    """Raise UserError when the device names one GPU of one machine, or the numbers make no sense."""
    if device.startswith("cuda:"):
        raise UserError(
            f"--device {device} names a GPU of one machine and Ray hands out GPUs itself; give --device cuda"
        )
    if not 0 < cpus < math.inf:
        raise UserError(f"--cpus-per-worker is {cpus:g}; give a number above zero")
    if gpus is not None and not (0 <= gpus < math.inf and (gpus <= 1 or gpus == int(gpus))):
        raise UserError(f"--gpus-per-worker is {gpus:g}; give a whole number, or a fraction below 1")


def make_reservation(device: str, cpus: float, gpus: float | None) -> Reservation:
    """What a worker reserves; without a word about GPUs one each where the device asks for CUDA or the cluster has some."""
    check_reservation(device, cpus, gpus)
    if gpus is None:
        found = load_ray().cluster_resources().get("GPU", 0.0) if device == "auto" else 0.0
        gpus = 1.0 if device == "cuda" or found else 0.0
    return Reservation(cpus, gpus)


def capacity(reservation: Reservation, without: Collection[str] = ()) -> int:
    """How many workers the live nodes can hold, were they free of other work; `without` are ids of nodes that do not count."""
    nodes = [node for node in load_ray().nodes() if node["Alive"] and node["NodeID"] not in without]
    return sum(_fit(node["Resources"], reservation) for node in nodes)


def require_room(reservation: Reservation, grows: bool) -> None:
    """Raise UserError where a cluster to which no node can be added has no room for a worker."""
    if not grows and capacity(reservation) == 0:
        raise UserError(
            f"this machine has no room for a worker of {reservation}; ask for less with --cpus-per-worker or "
            f"--gpus-per-worker, or give the --address of a cluster"
        )


def _fit(resources: dict[str, float], reservation: Reservation) -> int:
    wanted = {name: _units(n) for name, n in (("CPU", reservation.cpus), ("GPU", reservation.gpus)) if n}
    return min(_units(resources.get(name, 0.0)) // units for name, units in wanted.items())


def _units(amount: float) -> int:
    return max(round(amount * _UNITS), 0)


@contextmanager
def cluster(address: str | None, cpus: float = 1.0) -> Iterator[bool]:
    """A connection to Ray for the time of a run; tells whether other nodes may join.

    A process that is already connected keeps its connection, before and after.

    Args:
        address: of a running cluster; None starts one on this machine and stops it afterwards.
        cpus: CPUs the local one shall offer at least, though the machine may have fewer.

    Raises:
        UserError: no Ray answers at that address, or it is of another version.
    """
    ray = load_ray()
    if ray.is_initialized():
        yield True
        return
    options: dict[str, Any] = {"address": address}
    if address is None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a local run tells nobody
        os.environ.setdefault("RAY_worker_niceness", "0")  # as nice as its command; with 15 it would starve
        options = {
            "address": "local",  # and not the cluster that RAY_ADDRESS may name
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
    """Standard output without what Ray's own threads print there on every lost worker: the engine reports that itself."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        if threading.current_thread().name.startswith("ray_"):
            return len(text)
        return self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()


def require_listener(address: str) -> None:
    """Ray itself tries a wrong address for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return  # "auto" or a mistake, which Ray tells at once
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"nothing answers at --address {address} ({error}); give the host:port that ray start --head printed, or leave "
            f"--address out to work on this machine"
        ) from error


def _connect(options: dict[str, Any]) -> None:
    """ray.init, without its signal handler and its chatter."""
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        load_ray().init(log_to_driver=False, logging_level=logging.ERROR, **options)
    except SystemExit:
        if callable(handler):  # SIGTERM met Ray's handler while it was starting
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
