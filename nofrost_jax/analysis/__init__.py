"""What the paper measures of a net beside accuracy: margin, thickness and smoothness, and batch norm's statistics."""
