"""CIFAR-10 from a download to a deployable ONNX classifier: one module per stage of dvc.yaml."""
