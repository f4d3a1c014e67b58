"""The engine on Ray: the cluster as it is found, the driver's scheduler, and the actor on the other side."""

from ppgen.engines.ray.cluster import check_reservation, cluster, load_ray, make_reservation, require_room
from ppgen.engines.ray.engine import RayEngine
from ppgen.engines.ray.remote import ask_worker
from ppgen.engines.ray.scheduler import WorkerRange

__all__ = [
    "RayEngine",
    "WorkerRange",
    "ask_worker",
    "check_reservation",
    "cluster",
    "load_ray",
    "make_reservation",
    "require_room",
]
