"""Workers on a Ray cluster: one actor each.

Plain Ray Core. Actors write their shards themselves and answer with small records, so no pixel passes through Ray. If a worker
dies, the driver leases its shards to other workers. Ray itself restarts nothing: a restarted actor would keep tasks that no other
worker may take.
"""

from __future__ import annotations

import os
import pickle
import platform
import sys
import time
import traceback
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from ppcore.errors import UserError
from ppcore.shards import PLAN
from ppcore.storage import KeptStderr, Store
from ppgen.engines.cluster import (
    Reservation,
    capacity,
    cluster,
    describe,
    load_ray,
    make_reservation,
    require_room,
)
from ppgen.engines.driver import Message, Receive, Transport, Worker
from ppgen.engines.events import Failure, last_line
from ppgen.engines.inline import limit_gpu_memory
from ppgen.options import EngineOptions
from ppgen.shards import Job, ShardCommit
from ppgen.shards import Worker as ShardWorker

_POLL_S = 1.0  # between requests for progress
_REVIEW_S = 5.0  # between requests for the list of nodes
_REMIND_S = 30.0  # between messages of a run that waits for its first worker
_GRACE_S = 5.0
_GROUPS = {"commit": 1, "progress": 1}  # of an actor: threads beside the one that samples


@contextmanager
def workers_on_ray(job: Job, options: EngineOptions, shards: int) -> Iterator[Transport]:
    """Workers on the cluster of the options, or on a local one that is started and stopped. Raises UserError if it has no room."""
    least = options.workers or options.min_workers or 1
    with cluster(options.address, min(least, shards) * (options.cpus_per_worker or 1.0)) as grows:
        reservation = make_reservation(job.source.device, options)
        require_room(reservation, grows)
        yield Actors(job, reservation, least, options.workers or options.max_workers)


def describe_range(options: EngineOptions) -> str:
    """How many workers the options ask for: `4 workers`, `at least 2, at most 8 workers`."""
    least, most = options.workers or options.min_workers or 1, options.workers or options.max_workers
    if least == most:
        return f"{least} worker{'s' if least > 1 else ''}"
    text = f"at least {least}, " if least > 1 else ""
    return f"{text}at most {most} workers" if most else f"{text}as many workers as have room"


def workers_wanted(least: int, most: int | None, room: int, alive: int) -> int:
    """How many workers to ask for.

    At least `least`, even without room, so that an autoscaler adds nodes. With `most`, twice as many as are alive, up to `most`;
    without, as many as the cluster has room for.
    """
    if most is None:
        return max(room, least)
    return max(least, min(most, max(room, 2 * alive)))


class Actors(Transport):
    """Actors of Ray. Needs a connection.

    Args:
        reservation: of each worker.
        least, most: number of workers, see :func:`workers_wanted`.
    """

    def __init__(self, job: Job, reservation: Reservation, least: int, most: int | None) -> None:
        self._ray = load_ray()
        self._reservation, self._least, self._most = reservation, least, most
        self._class = _make_actor_class(reservation)
        share = reservation["GPU"] if 0 < reservation["GPU"] < 1 else 1.0
        self._open_worker = pickle.dumps((ActorWorker, (job, share)))
        self._actors: dict[Worker, Any] = {}
        self._parked: list[
            tuple[str, Any]
        ] = []  # (node id, actor) on bad GPUs, kept so that no other worker gets these
        self._answers: dict[Any, tuple[Worker, Message, int | None]] = {}
        self._reported: dict[Worker, int] = {}  # samples of the shard that is being sampled
        self._node_ids: dict[str, str] = {}  # by the name of the node
        self._nodes: list[dict[str, Any]] = []
        self._review_at = self._poll_at = self._remind_at = 0.0

    def wanted(self, alive: int, avoided: Collection[str]) -> int:
        if time.monotonic() >= self._review_at:
            self._nodes, self._review_at = self._ray.nodes(), time.monotonic() + _REVIEW_S
        without = {self._node_ids[name] for name in avoided}
        nodes = [node for node in self._nodes if node["Alive"] and node["NodeID"] not in without]
        parked = sum(node["NodeID"] == parked for node in nodes for parked, _ in self._parked)
        return workers_wanted(self._least, self._most, capacity(self._reservation, nodes) - parked, alive)

    def start(self, avoided: Collection[str]) -> Worker:
        ids = [self._node_ids[name] for name in avoided]
        elsewhere = {"label_selector": {"ray.io/node-id": f"!in({','.join(ids)})"}} if ids else {}
        worker = Worker()
        actor = self._actors[worker] = self._class.options(**elsewhere).remote(*_surroundings())
        self._expect(actor.where.remote(), worker, "placed")
        self._expect(actor.answer.remote(self._open_worker, keep=True), worker, "ready")
        return worker

    def send(self, worker: Worker, shard: int) -> None:
        self._reported[worker] = 0
        self._expect(self._actors[worker].call.remote("sample", shard), worker, "begun", shard)

    def wait(self, receive: Receive) -> None:
        if time.monotonic() >= self._poll_at:
            self._poll_at = time.monotonic() + _POLL_S
            self._ask_for_progress()
            self._remind(receive)
        if not self._answers:
            time.sleep(0.1)  # every worker has died; the driver starts others
            return
        ready, _ = self._ray.wait(list(self._answers), timeout=_POLL_S)
        for reference in ready:
            worker, message, shard = self._answers.pop(reference)
            try:
                answer = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                where = f" on {worker.seat.name}" if worker.seat else ""
                receive(worker, "died", None, f"{error}\nits worker{where} was lost")
            else:
                self._pass_on(receive, worker, message, shard, answer)

    def _pass_on(
        self, receive: Receive, worker: Worker, message: Message, shard: int | None, answer: Any
    ) -> None:
        """Turn the answer of an actor into messages."""
        if message == "placed":
            process, node, device, node_id = answer
            self._node_ids[node] = node_id
            receive(worker, "placed", None, (process, node, device))
            return
        answer = _read_answer(answer, worker.seat.node if worker.seat else "a node")
        if isinstance(answer, Failure):
            receive(worker, "failed", shard, answer)
        elif message == "sampled":
            reported = self._reported.get(worker, 0)
            if worker.sampling == shard and answer > reported:
                self._reported[worker] = answer
                receive(worker, "sampled", None, answer - reported)
        elif message == "begun":
            receive(worker, "sampled", None, answer - self._reported[worker])
            receive(worker, "begun", shard, None)
            commit = self._actors[worker].call.options(concurrency_group="commit")
            self._expect(commit.remote("commit", shard), worker, "committed", shard)
        else:
            receive(worker, message, shard, answer)

    def stop(self, worker: Worker, *, block: bool) -> None:
        actor = self._actors.pop(worker)
        self._reported.pop(worker, None)
        self._answers = {ref: entry for ref, entry in self._answers.items() if entry[0] is not worker}
        self._review_at = 0.0
        if block and worker.seat is not None:
            self._parked.append((self._node_ids[worker.seat.node], actor))
        else:
            self._ray.kill(
                actor
            )  # even a worker reported dead: if only its connection broke, its process still runs

    def close(self, *, at_once: bool) -> None:
        """Kill all actors and wait until they are gone, so that nothing is written after the run."""
        for actor in [*self._actors.values(), *(actor for _, actor in self._parked)]:
            self._ray.kill(actor)
        if self._answers:
            self._ray.wait(list(self._answers), num_returns=len(self._answers), timeout=_GRACE_S)

    def _expect(self, reference: Any, worker: Worker, message: Message, shard: int | None = None) -> None:
        self._answers[reference] = (worker, message, shard)

    def _ask_for_progress(self) -> None:
        asked = {worker for worker, message, _ in self._answers.values() if message == "sampled"}
        for worker, actor in self._actors.items():
            if worker.sampling is not None and worker not in asked:
                progress = actor.call.options(concurrency_group="progress").remote("progress")
                self._expect(progress, worker, "sampled", worker.sampling)

    def _remind(self, receive: Receive) -> None:
        """Tell the user what a run without any ready worker waits for. It waits until Ctrl-C."""
        now = time.monotonic()
        if now < self._remind_at or any(worker.ready for worker in self._actors):
            return
        first, self._remind_at = self._remind_at == 0, now + _REMIND_S
        if capacity(self._reservation, self._nodes) == 0:
            text = f"no node of the Ray cluster offers {describe(self._reservation)}; waiting for one to join"
            receive(None, "notice", None, f"{text} ({len(self._actors)} workers wanted; Ctrl-C stops)")
        elif not first and not any(worker.seat for worker in self._actors):
            text = f"waiting for room for a worker of {describe(self._reservation)} (Ctrl-C stops)"
            receive(None, "notice", None, text)


class ActorWorker:
    """The worker inside an actor.

    Sampling has one thread, always the same, because CUDA graphs belong to the thread that captured them. Commits have another one,
    and requests for progress a third.
    """

    def __init__(self, job: Job, gpu_share: float) -> None:
        store = Store(job.out)
        if store.is_local and not store.exists(PLAN):
            raise UserError(
                f"{platform.node()} does not see the directory {os.path.abspath(job.out)} of this run; give an --out that all "
                f"machines of the cluster share, a shared file system or a URL"
            )
        self._stderr = KeptStderr(store, job.worker_log())
        limit_gpu_memory(gpu_share)
        self._worker = ShardWorker(job)
        self._commits: dict[int, Future[ShardCommit]] = {}
        self._sampled = 0

    def sample(self, shard: int) -> int:
        """Sample a shard and start its commit. Returns the number of samples."""
        self._sampled = 0

        def count(samples: int) -> None:
            self._sampled += samples

        self._commits[shard] = self._worker.begin(shard, count)
        return self._sampled

    def commit(self, shard: int) -> ShardCommit:
        """Wait until a sampled shard is committed."""
        return self._commits.pop(shard).result()

    def progress(self) -> int:
        """How many samples of the present shard are drawn."""
        return self._sampled


def call_on_worker(reservation: Reservation, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of a module on a worker of the cluster; waits for a node with room until Ctrl-C. Needs a connection.

    Raises:
        UserError: the worker died, its environment lacks packages, or the function raised UserError.
        Exception: what else the function raised, see :class:`Failure`.
    """
    ray = load_ray()
    actor = _make_actor_class(reservation).remote(*_surroundings())
    try:
        reference = actor.answer.remote(pickle.dumps((function, arguments)))
        remind_at = time.monotonic() + (_REMIND_S if capacity(reservation, ray.nodes()) else 0.0)
        while not ray.wait([reference], timeout=_POLL_S)[0]:
            if time.monotonic() >= remind_at:
                remind_at = time.monotonic() + _REMIND_S
                text = f"waiting for a worker of {describe(reservation)} to open the source (Ctrl-C stops)"
                print(text, file=sys.stderr, flush=True)
        answer = _read_answer(ray.get(reference), "a node of the cluster")
    except ray.exceptions.RayError as error:
        raise UserError(
            f"the source could not be opened on the cluster ({last_line(str(error))}); fix the cause and run the same command again"
        ) from error
    finally:
        ray.kill(actor)
    if isinstance(answer, Failure):
        raise answer.error
    return answer


def _read_answer(answer: tuple[str, Any], node: str) -> Any:
    """What an actor has answered; a :class:`Failure` if it could not import our package."""
    kind, content = answer
    if kind == "answer":
        return content
    error = UserError(
        f"{node} cannot run workers ({last_line(content)}); install the same packages on every node"
    )
    return Failure(error, content, "node")


def _surroundings() -> tuple[str, list[str]]:
    """Working directory and import path of this process, for an actor."""
    return os.getcwd(), [os.path.abspath(entry) for entry in sys.path]


def _make_actor_class(reservation: Reservation) -> Any:
    """The class of actors.

    It is defined inside a function so that Ray sends its code and imports no module of ours: on a node where the package is missing,
    the actor then starts and answers with the traceback of the import.
    """

    class Actor:
        def __init__(self, folder: str, path: list[str]) -> None:
            if os.path.isdir(folder):
                os.chdir(folder)  # relative paths mean the same as for the driver
            sys.path.extend(entry for entry in path if entry not in sys.path)  # for the user's own modules
            self._worker: Any = None

        def where(self) -> tuple[str, str, str, str]:
            """Process, node, device, Ray's id of the node."""
            import ray  # optional: only on Ray

            context = ray.get_runtime_context()
            gpus = context.get_accelerator_ids().get("GPU", [])
            device = f"GPU {'+'.join(map(str, gpus))}" if gpus else "cpu"
            node = context.get_node_id()
            return f"process {os.getpid()}", f"{platform.node()} (node {node[:8]})", device, node

        def answer(self, payload: bytes, keep: bool = False) -> tuple[str, Any]:
            """Call a pickled function with its arguments. `keep`: its result is the worker, and the answer None."""
            try:
                function, arguments = pickle.loads(payload)
                from ppgen.engines.events import Failure
            except Exception:
                return "import failed", traceback.format_exc()
            try:
                result = function(*arguments)
            except Exception as error:
                return "answer", Failure.of(error)  # Ray would wrap the exception
            self._worker = result if keep else None
            return "answer", None if keep else result

        def call(self, method: str, *arguments: Any) -> tuple[str, Any]:
            """Call a method of the worker."""
            from ppgen.engines.events import Failure

            try:
                return "answer", getattr(self._worker, method)(*arguments)
            except Exception as error:
                return "answer", Failure.of(error)

    once = {"max_restarts": 0, "max_task_retries": 0, "concurrency_groups": _GROUPS}
    return load_ray().remote(num_cpus=reservation["CPU"], num_gpus=reservation["GPU"], **once)(Actor)
