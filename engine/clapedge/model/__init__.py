"""An exported model on this device: the bundle on disk, providers, sessions of ONNX Runtime, and the two towers."""
