"""Features as solvers see them: products with the whole matrix, and batches of rows."""
