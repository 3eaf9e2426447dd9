"""What computes: torch, ONNX Runtime or OpenVINO, in fp32, bf16 or int8, from one model folder.

`whole` is the model as one module, `graph` draws it as ONNX, `running` has the engines, `rounded`
makes int8, `specimens` and `checking` hold each engine against torch, and `choosing` picks one.
"""
