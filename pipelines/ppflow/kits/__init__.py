"""Builders of kits."""
