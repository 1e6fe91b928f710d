"""The read service: users are told of their own jobs, and of nobody else's."""
