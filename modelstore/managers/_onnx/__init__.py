"""Parts of the ONNX manager: what a model file says of files beside it, and how a session is made again."""
