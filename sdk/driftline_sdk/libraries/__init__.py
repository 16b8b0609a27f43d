"""The client libraries that `watch` knows: one row and one file each, resolved on first use."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

from driftline_sdk.faults import swallow

LIBRARIES = {
    "openai": "driftline_sdk.libraries.openai:watch",
    "anthropic": "driftline_sdk.libraries.anthropic:watch",
    "google.genai": "driftline_sdk.libraries.google:watch",
    "litellm": "driftline_sdk.libraries.litellm:watch",
    "requests": "driftline_sdk.libraries.http:watch",
    "httpx": "driftline_sdk.libraries.http:watch",
    "httpx2": "driftline_sdk.libraries.http:watch",
    "transformers": "driftline_sdk.libraries.transformers:watch",
    "langchain_core": "driftline_sdk.libraries.langchain:watch",
    "llama_index": "driftline_sdk.libraries.llama_index:watch",
}


def watch_with(client: Any, options: dict[str, Any]) -> Any:
    """The client, watched by the file of the library that its class comes from."""
    name = library_of(client)
    if name is None:
        kind = f"{type(client).__module__}.{type(client).__qualname__}"
        swallow(TypeError(f"watch() does not know {kind}; it knows objects of {', '.join(LIBRARIES)}"), "watch")
        return client
    module, _, function = LIBRARIES[name].partition(":")
    return getattr(import_module(module), function)(client, **options)


def library_of(client: Any) -> str | None:
    """The row for a client: by the module of its class or of one that it inherits from; a module stands for itself."""
    modules = (
        [client.__name__] if isinstance(client, ModuleType) else [kind.__module__ for kind in type(client).__mro__]
    )
    for module in modules:
        for name in LIBRARIES:
            if module == name or module.startswith(name + "."):
                return name
    return None
