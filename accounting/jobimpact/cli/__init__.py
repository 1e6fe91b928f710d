"""The jobimpact command."""
