"""Floor 1: what happened (tensor, tape), what it means (op), how it is undone (backward, transforms)."""
