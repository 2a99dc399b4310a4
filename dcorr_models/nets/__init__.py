"""Pure networks: no losses, no training. One file a family."""
