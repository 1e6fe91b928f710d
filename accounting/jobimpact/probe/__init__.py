"""What the machine that it runs on is made of, as far as it tells."""
