"""The way in: the DICOM listener, its processes, and an Orthanc that is followed."""
