"""Dashboards for Grafana, as code. `python -m grafana.generate` writes them to `dashboards/`."""
