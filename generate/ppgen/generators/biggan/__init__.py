"""BigGAN-deep, the paper's generator."""

from ppgen.generators.biggan.generator import load

__all__ = ["load"]
