"""Who asks for which jobs, and what they may be told: from the results, live, or through the read service."""
