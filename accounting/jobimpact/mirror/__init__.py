"""The nodes' books as they came through a server, in files like the nodes' own."""
