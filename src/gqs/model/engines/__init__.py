"""Inference engines: torch, ONNX Runtime or OpenVINO, in fp32, bf16 or int8.

`export_module` is the model as one torch module, `graph` writes it as ONNX, `backends` has the
engines, `quantize` makes int8, `probe_cutouts` and `parity` compare an engine with torch, and
`select` chooses one.
"""
