"""mirv node: lesion radiomics and inter-lesion heterogeneity, inside the DICOM network."""
