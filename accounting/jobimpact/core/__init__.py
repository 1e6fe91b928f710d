"""What the daemon and accounting share: records, configuration, formats."""
