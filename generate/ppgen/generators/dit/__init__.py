"""DiT, the class-conditional diffusion transformer."""

from ppgen.generators.dit.generator import load

__all__ = ["load"]
