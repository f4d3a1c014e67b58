"""The network being trained: its wrapper, initial and averaged weights, CUDA graphs, device and optimiser."""

from pptrain.models.graphs import Graphs
from pptrain.models.network import (
    Network,
    Teacher,
    choose_device,
    choose_layout,
    follow_run,
    has_bf16,
    has_grouped_convolutions,
    synchronise_batch_norm,
    untracked,
)
from pptrain.models.optimiser import Ema, average_into, learning_rate, make_optimizer, set_rate
from pptrain.models.start import SMALL_SIDE, make_network, make_source_head, make_spec
