"""Each source under each fault, through the real daemon and the real `check`: what the books and an admin are told."""
