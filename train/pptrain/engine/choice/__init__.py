"""Precision, memory layout and compilation: what nobody gave is measured on the run's own network, batch and device."""

from pptrain.engine.choice.numerics import Numerics, with_stored
from pptrain.engine.choice.settling import settle

__all__ = ["Numerics", "settle", "with_stored"]
