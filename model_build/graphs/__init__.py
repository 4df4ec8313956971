"""Graphs: a network of a checkpoint as ONNX, and what is done to it before it is compiled."""
