"""What a workbench needs to know of itself as a server that others use."""
