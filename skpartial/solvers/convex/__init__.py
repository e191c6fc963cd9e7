"""Parts of the full-batch solver: convex problems, and Newton's method for all labels at once."""
