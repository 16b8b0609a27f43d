"""Every way to run a variant, by name. `takes` of a runner is the model format it opens, None where it opens none."""

RUNNERS: dict[str, str] = {
    "transformers": "variants.runners.transformers_local:TransformersRunner",
    "llama_cpp": "variants.runners.llama_cpp_local:LlamaCppRunner",
    "onnx": "variants.runners.onnx_local:OnnxRunner",
    "openai": "variants.runners.openai_compatible:OpenAIRunner",
    "anthropic": "variants.runners.anthropic_messages:AnthropicRunner",
    "recorded": "variants.runners.recorded:RecordedRunner",
    "python": "variants.runners.python_callable:PythonRunner",
}
