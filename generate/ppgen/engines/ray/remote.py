"""One question to one worker of the cluster, before there is a plan."""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections.abc import Callable
from typing import Any

from ppcore.errors import UserError
from ppgen.engines.failures import last_line
from ppgen.engines.progress import say
from ppgen.engines.ray import shell
from ppgen.engines.ray.cluster import Reservation, capacity, load_ray

_LOOK_S = 1.0
_REMIND_S = 30.0


def ask_worker(reservation: Reservation, make: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """What `make(*arguments).load()` returns on a worker; needs a connection. Waits for a node as long as it takes.

    Raises:
        UserError: the worker died, or its environment cannot run it.
    """
    ray = load_ray()
    ray.cloudpickle.register_pickle_by_value(shell)
    reserved: dict[str, Any] = {"num_cpus": reservation.cpus, "num_gpus": reservation.gpus}
    actor = ray.remote(**reserved, concurrency_groups=shell.GROUPS)(shell.Shell).remote(
        os.getcwd(), [os.path.abspath(entry) for entry in sys.path]
    )
    try:
        reference = actor.load.remote(make.__module__, make.__qualname__, pickle.dumps(arguments))
        remind_at = time.monotonic() + (_REMIND_S if capacity(reservation) else 0.0)
        while not ray.wait([reference], timeout=_LOOK_S)[0]:
            if time.monotonic() >= remind_at:
                remind_at = time.monotonic() + _REMIND_S
                say(f"waiting for a worker of {reservation} that says what the source is (Ctrl-C stops)")
        answer = ray.get(reference)
    except ray.exceptions.RayError as error:
        raise UserError(
            f"the source could not be opened on the cluster ({last_line(str(error))}); mend that and run the same command again"
        ) from error
    finally:
        ray.kill(actor)
    if isinstance(answer, shell.Broken):
        raise UserError(
            f"a node of the cluster cannot run workers ({last_line(answer.reason)}); install the same packages on every node"
        )
    return answer
