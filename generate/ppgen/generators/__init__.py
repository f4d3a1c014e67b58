"""The families of pre-trained conditional generators, and the one way to get a generator: `load_generator`.

A family is a module with `load(source, device, dtype) -> Generator`, listed in `LOADERS` (:mod:`ppgen.generators.load`) and in
:data:`ppgen.sources.FAMILIES`. It reads its sampling options with :func:`ppgen.sources.read_options` into a dataclass and returns a
subclass of :class:`ppgen.generators.parts.family.FamilyGenerator`, which needs only `sample_float`. A diffusion or flow model needs
less: a :class:`ppgen.generators.parts.diffusion.Network`, handed to a `DiffusionGenerator`. `unet.py` is the family to copy.
"""

from ppgen.generators.load import load_generator, open_generator
