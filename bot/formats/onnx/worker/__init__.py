"""ONNX: onnxruntime-genai's builder makes the files, and onnxruntime-genai runs them."""
