"""What the full-batch solver is made of: convex problems, and Newton's method for all labels at once."""
