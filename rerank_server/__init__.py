"""The rerank server: gRPC in front, onnxruntime behind, no state of any shopper."""
