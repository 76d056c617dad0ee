"""What the DICOM standard and this node's identity in it fix: classes, codes, UIDs."""
