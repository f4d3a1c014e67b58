"""What the families are made of: sampling loop, options, schedulers, decoders, soft labels; no family stands here."""
