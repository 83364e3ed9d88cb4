"""Export trained policies for machines without sparl: C99, ONNX and plain arrays."""
