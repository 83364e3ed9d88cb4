"""Export policies as C99, ONNX or plain arrays, and agents that learn on a microcontroller."""
