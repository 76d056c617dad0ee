"""Retrieval for a trial: one baseline study a patient, by a written rule."""
