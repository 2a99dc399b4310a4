"""Differentiable dependence losses for PyTorch."""
