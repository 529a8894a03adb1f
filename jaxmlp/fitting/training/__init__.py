"""Training by gradients: losses, steps, epochs, what changes, checkpoints."""
