"""DICOM to arrays, and results to DICOM; no network, no database."""
