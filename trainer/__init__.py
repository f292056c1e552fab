"""The trainer: from a shop's log to a bundle of ONNX graphs."""
