"""Background training: processes, their folders and rows."""
