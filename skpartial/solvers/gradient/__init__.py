"""Parts of the minibatch solver: gradient steps on batches of rows."""
