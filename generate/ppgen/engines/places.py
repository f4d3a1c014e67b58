"""Where workers run, and which places are to be trusted: nodes and the seats on them, one seat a worker.

A seat outlives its worker: the process that replaces a failed one takes the same seat, and on a GPU the same GPU. So a place that
fails whatever it is given is told from a shard that fails wherever it goes: its shards succeed elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ppgen.engines.failures import WorkerLocation

SEAT_LIMIT = 3  # shards in a row that raise on one seat and succeed elsewhere
NODE_LIMIT = 6  # the same on all seats of a node together
DEATH_LIMIT = 10  # workers in a row that died there while their shards succeeded elsewhere: pre-emption takes several, too


@dataclass(eq=False)
class Record:
    """What a seat, or a node as a whole, has made of its leases since its last commit.

    Attributes:
        name: for messages.
        limit: shards that raised here and succeeded elsewhere before it is quarantined.
        raised, died: shards that raised here, or whose worker died, in a row.
        elsewhere: those of them that succeeded elsewhere.
        starts, deaths: workers in a row that raised or died here before they were ready.
        error: the last one.
        quarantined: whether it gets no more leases.
    """

    name: str
    limit: int
    raised: set[int] = field(default_factory=set)
    died: set[int] = field(default_factory=set)
    elsewhere: set[int] = field(default_factory=set)
    starts: int = 0
    deaths: int = 0
    error: str = ""
    quarantined: bool = False

    @property
    def suspect(self) -> bool:
        """Whether so many shards in a row raised that the place has to wait until they are tried elsewhere."""
        return len(self.raised) >= self.limit

    def clear(self) -> None:
        """A shard was committed here."""
        for shards in (self.raised, self.died, self.elsewhere):
            shards.clear()

    def is_sick(self) -> bool:
        """Whether what succeeded elsewhere is enough to end it."""
        raised, died = len(self.raised & self.elsewhere), len(self.died & self.elsewhere)
        return raised >= self.limit or died >= DEATH_LIMIT


@dataclass(eq=False)
class Seat:
    """A worker's place on a node.

    Attributes:
        node: the record of the whole node.
        own: the seat's.
        device: `cpu` or one GPU.
        worker: who sits there now; None between a worker and the next.
        ready: whether the worker can take leases.
    """

    node: Record
    own: Record
    device: str
    worker: str | None = None
    ready: bool = False

    @property
    def records(self) -> tuple[Record, Record]:
        """Its own and the node's."""
        return self.own, self.node

    @property
    def quarantined(self) -> bool:
        return self.own.quarantined or self.node.quarantined

    @property
    def trusted(self) -> bool:
        """Neither quarantined nor suspect."""
        return not (self.quarantined or self.own.suspect or self.node.suspect)


class Places:
    """All nodes and seats that a run has seen.

    Attributes:
        most: workers that were alive at one time, at most.
    """

    def __init__(self) -> None:
        self._nodes: dict[str, Record] = {}
        self._seats: list[Seat] = []
        self.most = 1

    def join(self, place: WorkerLocation) -> Seat:
        """Seat a new worker: where one has left, else on a new seat."""
        node = self.node(place.node)
        same = [seat for seat in self._seats if seat.node is node and seat.device == place.device]
        seat = next((seat for seat in same if seat.worker is None), None)
        if seat is None:
            name = f"{place.device} of {place.node}" + (f", worker {len(same)}" if same else "")
            seat = Seat(node, Record(name, SEAT_LIMIT), place.device)
            self._seats.append(seat)
        seat.worker, seat.ready = place.worker, False
        return seat

    def ready(self, place: WorkerLocation) -> None:
        """The worker has loaded what it needs."""
        seat = self.of(place)
        assert seat is not None, place
        seat.ready = True
        seat.own.starts = seat.own.deaths = 0
        self.most = max(self.most, len(self.live()))

    def node(self, name: str) -> Record:
        """The record of a node."""
        return self._nodes.setdefault(name, Record(name, NODE_LIMIT))

    def of(self, place: WorkerLocation) -> Seat | None:
        """The seat of a worker."""
        return next((seat for seat in self._seats if seat.worker == place.worker), None)

    def live(self) -> list[Seat]:
        """Seats with a worker that is ready, the quarantined left out."""
        return [seat for seat in self._seats if seat.ready and not seat.quarantined]

    def leave(self, place: WorkerLocation) -> None:
        """The worker is gone."""
        seat = self.of(place)
        if seat is not None:
            seat.worker, seat.ready = None, False

    def may_lease(self, seat: Seat) -> bool:
        """A suspect place waits as long as there are others that can tell."""
        if seat.quarantined:
            return False
        return seat.trusted or not any(other.trusted for other in self.live())

    def not_started(self, seat: Seat, error: str, died: bool) -> bool:
        """A worker did not become ready; whether this is one time too often while others work elsewhere."""
        seat.own.error = error
        if died:
            seat.own.deaths += 1
        else:
            seat.own.starts += 1
        too_often = seat.own.starts >= SEAT_LIMIT or seat.own.deaths >= DEATH_LIMIT
        return too_often and bool(self.live())

    def missed(self, seat: Seat, shard: int, error: str, died: bool) -> None:
        """A lease came to nothing."""
        for record in seat.records:
            (record.died if died else record.raised).add(shard)
            record.error = error

    def succeeded(self, seat: Seat, shard: int) -> list[Record]:
        """A shard was committed; returns the places that are sick, now that it is known."""
        for record in seat.records:
            record.clear()
        found = []
        records = [record for other in self._seats for record in other.records]
        for record in dict.fromkeys(records):
            if shard in record.raised or shard in record.died:
                record.elsewhere.add(shard)
                if record.is_sick() and not record.quarantined:
                    found.append(record)
        return found

    def quarantined_nodes(self) -> list[str]:
        """Names of the nodes that get no more leases at all."""
        return [name for name, record in self._nodes.items() if record.quarantined]
