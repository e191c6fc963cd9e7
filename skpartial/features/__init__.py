"""Features for solvers: products with the whole matrix, and batches of rows."""
