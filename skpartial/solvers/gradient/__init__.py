"""What the minibatch solver is made of: gradient steps on batches of rows."""
