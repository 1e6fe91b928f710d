"""Reports by mail: who gets which, once, and what the mail server said."""
