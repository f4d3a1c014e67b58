"""Programs that make what the packages ship; not part of the wheel."""
