"""What runs on the accounting host: records, energies, impacts, answers."""
