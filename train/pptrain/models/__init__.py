"""The network being trained: its wrapper, its averaged weights, and where it starts."""

from pptrain.models.ema import Ema, average_into
from pptrain.models.network import Network, Teacher, by_first, choose_layout, untracked
from pptrain.models.start import SMALL_SIDE, make_network, make_spec

__all__ = [
    "SMALL_SIDE",
    "Ema",
    "Network",
    "Teacher",
    "average_into",
    "by_first",
    "choose_layout",
    "make_network",
    "make_spec",
    "untracked",
]
