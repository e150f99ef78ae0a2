"""Where event records go: one kind of sink a module."""
