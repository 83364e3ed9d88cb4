"""A trained policy for machines without sparl: C for small devices, ONNX, and plain arrays."""
