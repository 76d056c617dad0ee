"""Structured reporting: concepts, content items, encoding, templates."""
