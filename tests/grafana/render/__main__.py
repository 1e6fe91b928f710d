"""Pictures of dashboards: `python -m tests.grafana.render all --theme dark --out FOLDER`."""
