"""The families of pre-trained conditional generators, and the one way to get one: `load_generator`."""

from ppgen.generators.load import load_generator, open_generator
from ppgen.generators.parts.compilation import (
    compile_mode,
    missing_compiler,
    settle_as_planned,
    settle_description,
    settle_for_plan,
)

__all__ = [
    "compile_mode",
    "load_generator",
    "missing_compiler",
    "open_generator",
    "settle_as_planned",
    "settle_description",
    "settle_for_plan",
]
