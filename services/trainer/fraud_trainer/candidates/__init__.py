"""The kinds of model that a training fits: each learns, scores, and adds itself to an ONNX graph."""
