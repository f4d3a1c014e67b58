"""What `faults.py` injects, and what it stands on."""
