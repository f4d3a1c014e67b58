"""Builders of kits and of the image sets that recipes use. Run them from the top of a checkout: `python -m tools.kits.letters.build`."""
