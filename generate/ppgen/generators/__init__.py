"""The families of pre-trained conditional generators, and the one way to get one: `load_generator`."""

from ppgen.generators.load import load_generator, open_generator

__all__ = ["load_generator", "open_generator"]
