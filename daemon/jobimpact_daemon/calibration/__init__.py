"""How a node's plug follows its parts: from a recording to a line, its residuals and the inventory."""
