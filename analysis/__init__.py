"""Arrays and tables in, plain results out; no DICOM, no network, no database."""
