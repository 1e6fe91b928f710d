"""Where a job's energy is read: one file, one store."""
