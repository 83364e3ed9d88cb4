"""Export trained policies as C99, ONNX or plain arrays, for machines without sparl."""
