"""Pre-trained conditional generators, one file a family, behind one protocol (see :mod:`ppgen.generators.base`)."""

from ppgen.generators.base import Generator, load_generator

__all__ = ["Generator", "load_generator"]
