"""Benchmarks: every operator family and the whole generator against plain PyTorch and the installable peers."""
