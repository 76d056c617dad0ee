"""DICOM files as they come: structure, headers, references, pixels."""
