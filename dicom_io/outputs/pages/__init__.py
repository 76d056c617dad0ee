"""The report's pages, as PDF, Secondary Capture and pictures."""
