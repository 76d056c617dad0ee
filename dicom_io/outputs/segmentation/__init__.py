"""The lesions as a DICOM SEG."""
