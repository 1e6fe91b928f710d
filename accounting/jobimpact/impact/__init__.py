"""From joules and node-hours to GWP, ADP and PE: pure."""
