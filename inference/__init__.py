"""Use of trained runs: prediction for recordings, robustness, export to ONNX and to the hub."""
