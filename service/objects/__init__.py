"""Received objects on disk: taken in, kept, checked, repaired, removed."""
